#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <unordered_map>

#include "child/result_memory.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/message_socket.hpp"
#include "kindred/internal/shared_memory.hpp"

namespace kindred::internal {

/// The worker's end of the socket to the parent: what the parent sends beside calls (shared memories,
/// libraries), and what the worker says. A task may close the socket, or put a file of its own in its place:
/// then the worker ends, with a word about it.
class Mailbox {
 public:
  Mailbox(WorkerBootstrap& boot, ResultMemory& results);

  /// Is the socket still behind its descriptor?
  [[nodiscard]] bool has_socket() const noexcept { return boot_.socket.identity() == identity_; }
  /// Has the parent raised `mail` since the last look?
  [[nodiscard]] bool has_mail() const noexcept {
    return boot_.segment.header().mail.load(std::memory_order_acquire) != mail_seen_;
  }
  /// Reads what has come, if the parent has raised `mail`.
  void read();

  /// The shared memory of this number, which the parent sent before it published the call. Errors:
  /// `SystemError` where this process had no descriptor left when it came.
  [[nodiscard]] std::shared_ptr<SharedMemory> memory(std::uint64_t id);
  /// Was such a memory missing? The parent takes it that this worker has it: the worker is to be replaced.
  [[nodiscard]] bool lacks_memory() const noexcept { return lacks_memory_; }
  /// Errors: `UsageError` that names the library: not loaded here, or another build.
  [[nodiscard]] void* resolve(CodeReference reference);
  /// The initializer has run: what calls need has come before them from now on.
  void note_started() noexcept { starting_ = false; }
  /// Bytes of the memories for calls that are kept.
  [[nodiscard]] std::uint64_t kept_bytes() const noexcept;

  /// Waits where the socket is full.
  void send(WorkerMessage message, std::span<const std::byte> text);
  /// Sends a shared memory, under this number. Returns the number.
  std::uint64_t send_memory(const SharedMemory& memory, std::uint64_t id);
  [[nodiscard]] std::uint64_t next_memory_id() noexcept { return next_memory_id_++; }
  /// Call in a process that a task forked and that is about to end.
  void tell_of_forked_child() const noexcept;

 private:
  void receive_expected();  // what the parent sent before it published the call
  bool receive(bool wait);  // false: there was none
  void take_memories(Message& message);
  [[nodiscard]] std::shared_ptr<SharedMemory> memory_or_missing(std::uint64_t id);
  void take_module(const AttachmentNotice& notice, std::span<const std::byte> text);
  void send_whole(std::span<const std::byte> message, std::span<const int> descriptors);
  [[noreturn]] void end_without_socket() const noexcept;

  WorkerBootstrap& boot_;
  ResultMemory& results_;
  const std::uint64_t identity_;  // of the socket
  bool starting_ = true;          // what the initializer needs may still be on its way
  std::uint32_t mail_seen_ = 0;
  std::map<std::uint64_t, std::shared_ptr<SharedMemory>> memories_;  // sent, not yet named; null: missing
  std::unordered_map<std::uint64_t, std::shared_ptr<SharedMemory>> kept_;  // for the next calls
  bool lacks_memory_ = false;
  std::uint64_t next_memory_id_ = 1;
  CodeReference last_reference_ = 0;
  void* last_address_ = nullptr;
  std::size_t modules_noted_;  // how many libraries' places a stack can name
};

}  // namespace kindred::internal
