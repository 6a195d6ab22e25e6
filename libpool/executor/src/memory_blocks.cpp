#include "pool_core.hpp"

namespace kindred::internal {

std::shared_ptr<SharedMemory> PoolCore::take_block(std::size_t bytes) {
  auto block = std::make_shared<SharedMemory>(SharedMemory::create("kindred-block", bytes));
  block->map_pages(true);
  return block;
}

}  // namespace kindred::internal
