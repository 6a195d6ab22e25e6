#include "pool_core.hpp"

namespace kindred::internal {

std::shared_ptr<SharedMemory> PoolCore::take_block(std::size_t bytes) {
  return std::make_shared<SharedMemory>(SharedMemory::create("kindred-block", bytes));
}

}  // namespace kindred::internal
