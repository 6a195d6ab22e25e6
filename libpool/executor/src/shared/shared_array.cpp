#include "kindred/shared_array.hpp"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "kept_blocks.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/context_life.hpp"
#include "shared/handles.hpp"
#include "shared/per_process.hpp"

namespace kindred::internal {

/// One array as this process sees it. Its memory begins with the first element: no header lies in it, so
/// no process can change what this one knows of it.
class ArrayBlock {
 public:
  std::shared_ptr<ContextLife> life;
  std::shared_ptr<SharedMemory> memory;
  std::uint64_t id = 0;  ///< owner number of the maker above, its serial below
  std::uint64_t bytes = 0;
  std::size_t bytes_each = 0;
  bool all_write = false;
  mutable std::atomic<bool> sealed{false};
};

namespace {

constexpr unsigned owner_shift = 32;

std::atomic<std::uint64_t> next_serial{1};

/// The arrays that this process has, so that one that crosses twice is the same to it, and is mapped once.
///
/// A worker keeps those that came last although no handle uses them, as `idle_memory_stays` says: a page that
/// is mapped anew costs more than half a microsecond when it is touched, so calls with the same array would
/// spend most of their time on that.
struct ArrayTable {
  static constexpr std::size_t max_kept = 8;
  static constexpr std::uint64_t max_bytes_kept = std::uint64_t{256} << 20U;

  std::mutex mutex;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::weak_ptr<ArrayBlock>> known;  ///< by context and id
  std::size_t clean_at = 64;
  std::list<std::shared_ptr<ArrayBlock>> kept;  ///< the latest first
  std::uint64_t bytes_kept = 0;
  std::atomic<bool> keeps_some{false};

  void add(ContextId context, const std::shared_ptr<ArrayBlock>& block) {
    if (known.size() >= clean_at) {
      std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
      clean_at = 2 * known.size() + 64;
    }
    known[{context.value, block->id}] = block;
  }

  /// Returns those that made room, to be unmapped when the lock is free.
  std::list<std::shared_ptr<ArrayBlock>> keep(const std::shared_ptr<ArrayBlock>& block) {
    std::list<std::shared_ptr<ArrayBlock>> gone;
    if (block->bytes > max_bytes_kept) return gone;
    const auto found = std::find(kept.begin(), kept.end(), block);
    if (found != kept.end()) {
      kept.splice(kept.begin(), kept, found);
      return gone;
    }
    kept.push_front(block);
    bytes_kept += block->bytes;
    keeps_some.store(true, std::memory_order_relaxed);
    while (kept.size() > max_kept || bytes_kept > max_bytes_kept) {
      bytes_kept -= kept.back()->bytes;
      gone.splice(gone.begin(), kept, std::prev(kept.end()));
    }
    return gone;
  }
};

ArrayTable& table() { return per_process<ArrayTable>(); }

/// Where memory is short, lets go of what this process keeps, and waits for what others do.
SharedMemory array_memory(std::size_t bytes) {
  constexpr const char* name = "kindred-array";
  if (keeps_idle_arrays()) {
    try {
      return SharedMemory::create(name, bytes);
    } catch (const SystemError&) {
      release_idle_arrays();
    }
  }
  return SharedMemory::create(name, bytes, idle_memory_is_back);
}

std::shared_ptr<ArrayBlock> make_block(const std::shared_ptr<ContextLife>& life, std::uint32_t owner,
                                       std::size_t size, std::size_t bytes_each, ArrayAccess access) {
  if (size == 0) return nullptr;
  if (size > (std::size_t{1} << 62U) / bytes_each) {
    throw UsageError{"a SharedArray of " + std::to_string(size) + " elements of " +
                     std::to_string(bytes_each) +
                     " bytes is larger than any address space. Is the size a negative number?"};
  }
  auto block = std::make_shared<ArrayBlock>();
  block->life = life;
  block->memory = std::make_shared<SharedMemory>(array_memory(size * bytes_each));
  block->id = (std::uint64_t{owner} << owner_shift) |
              (next_serial.fetch_add(1, std::memory_order_relaxed) & 0xffff'ffffU);
  block->bytes = size * bytes_each;
  block->bytes_each = bytes_each;
  block->all_write = access == ArrayAccess::all_write;
  ArrayTable& all = table();
  const std::lock_guard lock{all.mutex};
  all.add(life->id, block);
  return block;
}

}  // namespace

std::shared_ptr<ArrayBlock> make_array_block(const std::shared_ptr<ContextLife>& life, std::size_t size,
                                             std::size_t bytes_each, ArrayAccess access) {
  require_here("SharedArray", *life);
  return make_block(life, owner_here(life->id), size, bytes_each, access);
}

std::shared_ptr<ArrayBlock> make_array_block_here(std::size_t size, std::size_t bytes_each,
                                                  ArrayAccess access) {
  const ContextId context = served_context();
  if (!context) {
    throw UsageError{
        "make_shared_array() was called in a process that is no worker, so it can't know for which executor. Call make_array() of the "
        "executor that the array is for."};
  }
  return make_block(served_life(context), owner_here(context), size, bytes_each, access);
}

std::byte* array_bytes(const ArrayBlock& block) noexcept { return block.memory->bytes().data(); }
bool array_writable(const ArrayBlock* block) noexcept {
  return block != nullptr && block->memory->writable();
}

void throw_array_not_writable(const ArrayBlock& block) {
  throw UsageError{
      "this SharedArray of " + std::to_string(block.bytes / block.bytes_each) +
      " elements was made by another process and is read-only in pid " + std::to_string(process_id()) +
      ". Make it with ArrayAccess::all_write, or write to a new one (make_shared_array in a worker) and "
      "return that."};
}

void throw_array_index(std::size_t index, std::size_t size) {
  throw UsageError{"element " + std::to_string(index) + " was asked of a SharedArray of " +
                   std::to_string(size) + " elements."};
}

// An array in a message; its memory goes along in either direction:
//
//     | context | array id | elements | bytes each | attachment |
//
// An empty array has context 0 and ends there.

void encode_array(Encoder& encoder, const std::shared_ptr<ArrayBlock>& block, std::size_t size,
                  std::size_t bytes_each) {
  if (block == nullptr) {
    encoder.write_value(std::uint64_t{0});
    return;
  }
  if (block->life->id != encoder.context())
    throw_foreign_handle("SharedArray", block->life->id, encoder.context());
  require_here("SharedArray", *block->life);
  if (handles_are_refused()) throw_refused_in_channel("SharedArray");
  if (!block->all_write && !block->sealed.load(std::memory_order_relaxed)) {
    block->memory->seal_writes();
    block->sealed.store(true, std::memory_order_relaxed);
  }
  encoder.write_value(block->life->id.value);
  encoder.write_value(block->id);
  encoder.write_value(static_cast<std::uint64_t>(size));
  encoder.write_value(static_cast<std::uint32_t>(bytes_each));
  encoder.write_value(encoder.attach(block->memory));
}

std::shared_ptr<ArrayBlock> decode_array(Decoder& decoder, std::size_t& size, std::size_t bytes_each) {
  size = 0;
  const ContextId context{decoder.read_value<std::uint64_t>()};
  if (!context) return nullptr;
  const auto id = decoder.read_value<std::uint64_t>();
  const auto elements = decoder.read_value<std::uint64_t>();
  const auto its_bytes_each = decoder.read_value<std::uint32_t>();
  const auto attachment = decoder.read_value<std::uint32_t>();
  if (context != decoder.context())
    throw DecodeError{"a message of " + to_string(decoder.context()) +
                      " holds no SharedArray of it where one belongs"};
  if (its_bytes_each != bytes_each) {
    throw DecodeError{"a SharedArray came with elements of " + std::to_string(its_bytes_each) +
                      " bytes where " + std::to_string(bytes_each) + " are expected"};
  }
  const std::uint32_t owner = owner_here(context);
  if (owner == 0) throw_foreign_handle("SharedArray", context, {});
  if (elements == 0 || elements > (std::uint64_t{1} << 62U) / bytes_each) {
    throw DecodeError{"a SharedArray came with " + std::to_string(elements) + " elements of " +
                      std::to_string(bytes_each) + " bytes"};
  }
  const std::uint64_t bytes = elements * bytes_each;

  ArrayTable& all = table();
  std::shared_ptr<ArrayBlock> block;
  std::list<std::shared_ptr<ArrayBlock>> gone;  // before the lock, so that it is destroyed after it
  const std::lock_guard lock{all.mutex};
  const auto found = all.known.find({context.value, id});
  if (found != all.known.end()) block = found->second.lock();
  if (block != nullptr && (block->bytes != bytes || block->bytes_each != bytes_each)) {
    throw DecodeError{"a SharedArray came with " + std::to_string(bytes) +
                      " bytes under the id of one with " + std::to_string(block->bytes)};
  }
  if (block == nullptr) {
    auto memory = decoder.attachment(attachment);
    if (memory->size() < bytes) {
      throw DecodeError{"a SharedArray of " + std::to_string(bytes) + " bytes came with a memory of " +
                        std::to_string(memory->size())};
    }
    block = std::make_shared<ArrayBlock>();
    block->life = served_life(context);
    block->id = id;
    block->bytes = bytes;
    block->bytes_each = bytes_each;
    block->all_write = memory->writable();
    block->sealed.store(!block->all_write, std::memory_order_relaxed);
    block->memory = std::move(memory);
    // By id the parent finds only arrays that it made itself: a worker could give the id of another worker's
    // array.
    if (owner != 1) all.add(context, block);
  }
  if (owner != 1) gone = all.keep(block);
  size = static_cast<std::size_t>(elements);
  return block;
}

bool keeps_idle_arrays() noexcept { return table().keeps_some.load(std::memory_order_relaxed); }

void release_idle_arrays() noexcept {
  ArrayTable& all = table();
  std::list<std::shared_ptr<ArrayBlock>> gone;
  const std::lock_guard lock{all.mutex};
  gone.swap(all.kept);
  all.bytes_kept = 0;
  all.keeps_some.store(false, std::memory_order_relaxed);
}

}  // namespace kindred::internal
