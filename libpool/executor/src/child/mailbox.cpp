#include "child/mailbox.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "kindred/error.hpp"
#include "kindred/internal/cpu.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/exit_codes.hpp"
#include "kindred/internal/log_front.hpp"
#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

constexpr std::size_t max_text = 48 * 1024;

}  // namespace

Mailbox::Mailbox(WorkerBootstrap& boot, ResultMemory& results)
    : boot_{boot},
      results_{results},
      identity_{boot.socket.identity()},
      modules_noted_{boot.setup.modules.size()} {}

void Mailbox::end_without_socket() const noexcept {
  boot_.segment.header().phase.store(WorkerPhase::lost_descriptors, std::memory_order_relaxed);
  exit_now(worker_exit::lost_descriptors);
}

void Mailbox::read() {
  const auto mail = boot_.segment.header().mail.load(std::memory_order_acquire);
  if (mail == mail_seen_) return;
  mail_seen_ = mail;
  while (receive(false)) {}
}

void Mailbox::receive_expected() {
  if (!receive(starting_)) end_without_socket();
}

bool Mailbox::receive(bool wait) {
  if (!has_socket()) end_without_socket();
  bool closed = false;
  auto message =
      boot_.socket.receive(wait ? Deadline{} : Deadline{std::chrono::steady_clock::time_point{}}, &closed);
  if (closed) exit_now(0);  // the parent is gone
  if (!message) return false;
  if (message->bytes.size() < sizeof(AttachmentNotice)) return true;
  AttachmentNotice notice;
  std::memcpy(&notice, message->bytes.data(), sizeof notice);
  switch (static_cast<ParentMessage>(notice.message)) {
    case ParentMessage::attachment: take_memories(*message); break;
    case ParentMessage::module:
      take_module(notice, std::span<const std::byte>{message->bytes}.subspan(sizeof notice));
      break;
    case ParentMessage::forget: kept_.erase(notice.memory_id); break;
    case ParentMessage::forget_result: results_.forget(notice.memory_id); break;
  }
  return true;
}

// A notice and a descriptor for each memory. Where this process has no descriptor left, the kernel leaves out
// the last ones: such a memory is known, and missing.
void Mailbox::take_memories(Message& message) {
  const std::size_t count = message.bytes.size() / sizeof(AttachmentNotice);
  for (std::size_t i = 0; i < count; ++i) {
    AttachmentNotice notice;
    std::memcpy(&notice, message.bytes.data() + i * sizeof notice, sizeof notice);
    std::shared_ptr<SharedMemory> memory;
    if (i < message.descriptors.size()) {
      memory = std::make_shared<SharedMemory>(
          SharedMemory::adopt(std::move(message.descriptors[i]), notice.bytes));
    }
    if ((notice.memory_id & memory_is_kept) == 0) {
      memories_[notice.memory_id] = std::move(memory);
    } else {
      if (memory) memory->close_descriptor();
      kept_[notice.memory_id] = std::move(memory);
    }
  }
}

// The text is a path, a NUL and a build id; `bytes` is the path's length.
void Mailbox::take_module(const AttachmentNotice& notice, std::span<const std::byte> text) {
  const char* const path = reinterpret_cast<const char*>(text.data());
  Module module;
  module.path.assign(path, std::min<std::size_t>(notice.bytes, text.size()));
  if (text.size() > notice.bytes + 1)
    module.build_id.assign(path + notice.bytes + 1, text.size() - notice.bytes - 1);
  if (notice.memory_id == boot_.setup.modules.size()) boot_.setup.modules.push_back(module);
  boot_.code.add(notice.memory_id, std::move(module), boot_.setup.options.load_libraries);
}

std::shared_ptr<SharedMemory> Mailbox::memory(std::uint64_t id) {
  auto found = memory_or_missing(id);
  if (found) return found;
  lacks_memory_ = true;
  throw SystemError{"recvmsg", EMFILE, "taking in the shared memory of a call"};
}

std::shared_ptr<SharedMemory> Mailbox::memory_or_missing(std::uint64_t id) {
  for (;;) {
    if ((id & memory_is_kept) != 0) {
      if (const auto found = kept_.find(id); found != kept_.end()) return found->second;
    } else if (const auto found = memories_.find(id); found != memories_.end()) {
      auto memory = std::move(found->second);
      // In order: what was skipped belonged to calls that were revoked.
      memories_.erase(memories_.begin(), std::next(found));
      return memory;
    }
    receive_expected();
  }
}

void* Mailbox::resolve(CodeReference reference) {
  if (reference == last_reference_) return last_address_;
  while (!boot_.code.knows(reference)) receive_expected();
  void* const address = boot_.code.resolve(reference);
  if (reference >> code_module_shift > modules_noted_) {
    // A library of which the worker was told after its start: places in it have names from now on.
    modules_noted_ = boot_.setup.modules.size();
    note_modules(boot_.setup.modules);
  }
  last_reference_ = reference;
  last_address_ = address;
  return address;
}

std::uint64_t Mailbox::kept_bytes() const noexcept {
  std::uint64_t kept = 0;
  for (const auto& [id, memory] : kept_) kept += memory ? memory->size() : 0;
  return kept;
}

void Mailbox::send(WorkerMessage message, std::span<const std::byte> text) {
  const auto kind = static_cast<std::uint32_t>(message);
  std::vector<std::byte> whole(sizeof kind + std::min(text.size(), max_text));
  std::memcpy(whole.data(), &kind, sizeof kind);
  if (!text.empty()) std::memcpy(whole.data() + sizeof kind, text.data(), whole.size() - sizeof kind);
  send_whole(whole, {});
}

std::uint64_t Mailbox::send_memory(const SharedMemory& memory, std::uint64_t id) {
  const AttachmentNotice notice{.message = static_cast<std::uint32_t>(WorkerMessage::attachment),
                                .spare = 0,
                                .memory_id = id,
                                .bytes = memory.size()};
  const int fd = memory.fd();
  send_whole(std::as_bytes(std::span{&notice, 1}), fd < 0 ? std::span<const int>{} : std::span{&fd, 1});
  return id;
}

void Mailbox::send_whole(std::span<const std::byte> message, std::span<const int> descriptors) {
  if (!has_socket()) end_without_socket();
  for (;;) {
    const auto sent = boot_.socket.send(message, descriptors);
    if (sent == MessageSocket::Sent::yes) return;
    if (sent == MessageSocket::Sent::closed) exit_now(0);
    boot_.service_bell.ring();  // the socket is full: the parent has not read for long
    yield_cpu();
  }
}

// Nothing of the worker's may be touched here: memory is a copy, except the segment, which is the worker's.
void Mailbox::tell_of_forked_child() const noexcept {
  const ForkedChild notice{.message = static_cast<std::uint32_t>(WorkerMessage::forked_child),
                           .pid = process_id()};
  try {
    if (has_socket() && boot_.socket.send(std::as_bytes(std::span{&notice, 1})) == MessageSocket::Sent::yes)
      return;
  } catch (const std::exception&) {}
  complain_on_stderr(
      "kindred: a process that a task forked came out of the task's function instead of ending by _exit: it was ended.\n");
}

}  // namespace kindred::internal
