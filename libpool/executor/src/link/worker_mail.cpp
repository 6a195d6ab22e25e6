#include "link/worker_mail.hpp"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/bootstrap.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "link/worker_control.hpp"

namespace kindred::internal {
namespace {

// Shared memories that come for one result: its attachments, and the value.
constexpr std::size_t max_received = max_attachments + 1;
// Most kinds of messages are taken once, and no more at a time than a socket holds: a worker that writes
// without end does not keep the caller here.
constexpr int max_messages_at_once = 512;
// Processes forked by tasks of one incarnation that the log tells of.
constexpr unsigned max_forked_children_told = 8;

constexpr const char* malformed = "a message on its socket is malformed";
constexpr const char* malformed_memory = "a notice of shared memory is malformed";

}  // namespace

bool WorkerMail::take(Locked locked, WorkerSlot& slot) {
  for (int count = 0; count < max_messages_at_once; ++count) {
    bool closed = false;
    auto message = slot.worker.socket.receive(std::chrono::steady_clock::time_point{}, &closed);
    if (!message) {
      if (closed && slot.watched && !slot.untidy.mute_since) slot.untidy.mute_since = clock_.now();
      return !closed;
    }
    if (auto refused = take_one(locked, slot, *message); !refused.empty()) {
      WorkerControl::kill_corrupted(locked, slot, std::move(refused));
      return false;
    }
  }
  return true;
}

std::string WorkerMail::take_one(Locked locked, WorkerSlot& slot, Message& message) {
  std::uint32_t kind = 0;
  if (message.bytes.size() < sizeof kind || message.cut) return malformed;
  std::memcpy(&kind, message.bytes.data(), sizeof kind);
  if (kind != static_cast<std::uint32_t>(WorkerMessage::attachment) && !message.descriptors.empty())
    return "a message on its socket carries descriptors that none was to carry";
  const auto rest = Bytes{message.bytes}.subspan(sizeof kind);
  switch (static_cast<WorkerMessage>(kind)) {
    case WorkerMessage::ready: return take_ready(slot);
    case WorkerMessage::bootstrap_failed: return take_bootstrap_failed(slot, rest);
    case WorkerMessage::initializer_failed: return take_initializer_failed(slot, rest);
    case WorkerMessage::finalizer_failed: return take_finalizer_failed(locked, slot, rest);
    case WorkerMessage::forked_child: return take_forked_child(locked, slot, message.bytes);
    case WorkerMessage::attachment: return take_memory(locked, slot, message);
    default: return "a message on its socket has the unknown kind " + std::to_string(kind);
  }
}

std::string WorkerMail::take_ready(WorkerSlot& slot) const {
  if (slot.ready) return "it said twice that it is ready";
  slot.ready = true;
  slot.idle_since = clock_.now();
  return {};
}

std::string WorkerMail::take_bootstrap_failed(WorkerSlot& slot, Bytes text) {
  if (slot.ready || !slot.last_words.bootstrap_error.empty())
    return "its bootstrap failed after it was ready, or twice";
  slot.last_words.bootstrap_error.assign(reinterpret_cast<const char*>(text.data()), text.size());
  return {};
}

std::string WorkerMail::take_initializer_failed(WorkerSlot& slot, Bytes failure) {
  if (slot.ready || slot.last_words.initializer_failed)
    return "its initializer failed after it was ready, or twice";
  slot.last_words.initializer_failed = true;
  slot.last_words.failure_bytes.assign(failure.begin(), failure.end());
  return {};
}

std::string WorkerMail::take_finalizer_failed(Locked locked, WorkerSlot& slot, Bytes failure) {
  if (slot.last_words.finalizer_failed) return "its finalizer failed twice";
  slot.last_words.finalizer_failed = true;
  Decoder decoder{context_, failure};
  std::string text = "the finalizer of worker " + std::to_string(slot.index) + " failed";
  try {
    std::rethrow_exception(decode_exception(decoder, facts_about(slot.identity(), "finalizer")));
  } catch (const std::exception& error) {
    text += std::string{": "} + error.what();
  }
  log_.note_of(locked, slot, Level::error, std::move(text));
  return {};
}

std::string WorkerMail::take_forked_child(Locked locked, WorkerSlot& slot, Bytes message) {
  ForkedChild notice;
  if (message.size() != sizeof notice) return malformed;
  std::memcpy(&notice, message.data(), sizeof notice);
  if (slot.untidy.forked_children++ >= max_forked_children_told) return {};
  const TaskState* const task = slot.in_flight.empty() ? nullptr : slot.in_flight.front().task;
  std::string text =
      "a process (pid " + std::to_string(notice.pid) + ") that a task of worker " +
      std::to_string(slot.index) + " forked came out of the task's function and was ended: " +
      "only the worker itself gives results. End such a process by _exit(2), also where it fails.";
  if (slot.untidy.forked_children == max_forked_children_told)
    text += " Further ones of this worker are not told.";
  log_.note_of(locked, slot, Level::warn, std::move(text), task,
               task == nullptr ? 0 : task->ended_attempts() + 1U);
  return {};
}

std::string WorkerMail::take_memory(Locked locked, WorkerSlot& slot, Message& message) {
  AttachmentNotice notice;
  if (message.bytes.size() != sizeof notice || message.descriptors.size() > 1 || !slot.ready)
    return malformed_memory;
  // What the worker sent belongs to results that are in its ring, except that of the result that it writes
  // now.
  if (slot.memory.received.size() >= max_received) take_results_(locked, slot);
  if (slot.memory.received.size() >= max_received)
    return "it sent more shared memories than a result can have";
  std::memcpy(&notice, message.bytes.data(), sizeof notice);
  const bool kept = (notice.memory_id & memory_is_kept) != 0;
  const std::uint64_t id = notice.memory_id & ~memory_is_kept;
  if (kept && id >= max_result_blocks) return malformed_memory;
  try {
    if (message.descriptors.empty())
      throw SystemError{"recvmsg", EMFILE, "taking in a result's shared memory"};
    auto memory =
        std::make_shared<SharedMemory>(SharedMemory::adopt(std::move(message.descriptors[0]), notice.bytes));
    // What it has beyond that, no result would ever name.
    if (memory->size() != notice.bytes)
      return "a shared memory of " + std::to_string(notice.bytes) + " bytes was announced, and one of " +
             std::to_string(memory->size()) + " bytes came";
    if (kept) {
      memory->close_descriptor();  // for values only; an attachment may be sent on
      slot.memory.blocks.add(id, std::move(memory));
    } else {
      slot.memory.received[id] = std::move(memory);
    }
  } catch (const UsageError& error) {
    return error.what();
  } catch (const SystemError& error) {
    slot.memory.missing = error;
  } catch (const std::bad_alloc&) {
    slot.memory.ended = true;
  }
  return {};
}

}  // namespace kindred::internal
