#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/future_state.hpp"
#include "kindred/internal/segment.hpp"
#include "kindred/task_options.hpp"
#include "task_store.hpp"

namespace kindred::internal {

struct WorkerSlot;

/// What a task or its result carries beside its bytes: rare, so apart.
struct Cargo {
  Attachments attachments;
  std::shared_ptr<SharedMemory> block;  // the bytes lie here instead: of a call, a CallBlock
  std::size_t block_bytes = 0;
};

/// A task in the parent: its call until it is done, then its result. 192 bytes, three cache lines, small arguments and results included.
class TaskState final : public FutureState {
 public:
  static constexpr std::size_t inline_bytes = 48;
  enum class Place : std::uint8_t { nowhere, waiting, handed };
  enum class Condemned : std::uint8_t { no, timed_out, cancelled };

  /// Made in a room of the pool's `TaskStore`, and given back to it. Has two references: the caller's, and the pool's own until it is finished. It
  /// keeps the pool by a reference that `PoolCore::retain_for_task` took.
  TaskState(PoolCore* pool, std::uint64_t task_id, CodeReference entry_code, CodeReference function_code);

  [[nodiscard]] bool running() const override;
  bool cancel(Running how) override;
  [[nodiscard]] std::uint64_t task_id() const noexcept override { return id; }
  [[nodiscard]] std::vector<LogRecord> log() const override;

  void store(std::span<const std::byte> bytes) {
    drop_bytes();
    if (bytes.size() > inline_bytes) data_ = new std::byte[bytes.size()];
    size_ = static_cast<std::uint32_t>(bytes.size());
    if (!bytes.empty()) std::memcpy(data_, bytes.data(), bytes.size());
  }
  void store(std::unique_ptr<std::byte[]> bytes, std::size_t size) noexcept {
    drop_bytes();
    data_ = bytes.release();
    size_ = static_cast<std::uint32_t>(size);
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
    if (cargo && cargo->block) return cargo->block->bytes().first(cargo->block_bytes);
    return {data_, size_};
  }
  void drop_bytes() noexcept {
    if (data_ != room_) {
      delete[] data_;
      data_ = room_;
    }
    size_ = 0;
  }

  const std::uint64_t id;
  const CodeReference entry;
  const CodeReference function;
  std::unique_ptr<TaskOptions> options;  // null: all defaults
  std::unique_ptr<Cargo> cargo;
  union {
    std::uint64_t submitted_ticks = 0;
    std::uint64_t ran_ticks;  // once it has ended in a worker
  };

  // Under the pool's lock.
  std::atomic<CallHeader*> header{nullptr};  // of its call in a ring, while handed; also read by running()
  WorkerSlot* slot = nullptr;
  TaskState* next = nullptr;                  // in the waiting list
  TaskState* previous = nullptr;
  std::uint16_t attempts = 0;                 // times handed to a worker that began it
  Place place = Place::nowhere;
  Condemned condemned : 2 = Condemned::no;
  std::uint8_t deaths_before_it : 6 = 0;      // of workers that had it first in their ring, and had not begun it by their word; and how often one fell silent
  // After so many it was begun, whatever the words say: one that writes over them must not run for ever.
  static constexpr unsigned most_deaths_before_it = 8;

 private:
  ~TaskState() override;
  void destroy() noexcept override;

  std::uint32_t size_ = 0;
  std::byte* data_ = room_;
  alignas(8) std::byte room_[inline_bytes];
};
static_assert(sizeof(TaskState) <= TaskStore::room_bytes && alignof(TaskState) <= TaskStore::room_alignment);

}  // namespace kindred::internal
