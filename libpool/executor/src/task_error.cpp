#include "kindred/task_error.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <span>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/exception_codec.hpp"
#include "kindred/internal/function_name.hpp"
#include "kindred/internal/stack_text.hpp"

namespace kindred {

namespace {

std::string where(const internal::TaskFacts& facts) {
  if (facts.worker < 0) return {};
  return "worker " + std::to_string(facts.worker) + " (pid " + std::to_string(facts.pid) + ")";
}

std::string text_of(std::chrono::nanoseconds time) {
  std::array<char, 48> text{};
  const auto count = static_cast<double>(time.count());
  if (time < std::chrono::milliseconds{1}) {
    std::snprintf(text.data(), text.size(), "%.4g us", count / 1e3);
  } else if (time < std::chrono::seconds{1}) {
    std::snprintf(text.data(), text.size(), "%.4g ms", count / 1e6);
  } else {
    std::snprintf(text.data(), text.size(), "%.4g s", count / 1e9);
  }
  return text.data();
}

/// A line of a log for a message that may be printed anywhere: no control characters, and not endless.
std::string printable(std::string_view line) {
  constexpr std::size_t limit = 200;
  std::string text;
  for (const char c : line.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      std::array<char, 8> escape{};
      std::snprintf(escape.data(), escape.size(), "\\x%02x", byte);
      text += escape.data();
    } else {
      text += c;
    }
  }
  if (line.size() > limit) text += " ...";
  return text;
}

std::string mend_for(const ExitReason& reason, bool has_evidence) {
  switch (reason.kind) {
    case ExitReason::Kind::exited:
      return "It ended instead of returning: the task, or a library that it uses, called exit, _exit or quick_exit. Throw an exception instead.";
    case ExitReason::Kind::signalled:
      switch (reason.signal) {
        case 9: return has_evidence ? "" : "The kernel may have reclaimed memory: see dmesg.";
        case 15: return "Another process asked it to end (kill, a service manager).";
        default: return "";
      }
    case ExitReason::Kind::timed_out:
      return "Raise TaskOptions::timeout, or let the task look at stop_requested().";
    case ExitReason::Kind::lost:
      return "Other code in this process reaps children (waitpid(-1), SIGCHLD ignored): let it wait for its own pids.";
  }
  return "";
}

void add_sentence(std::string& message, std::string_view sentence) {
  if (sentence.empty()) return;
  message += ' ';
  message += sentence;
}

std::string lost_message(const WorkerLost::Details& details) {
  const auto& task = details.task;
  const bool running = task.task_id != 0 || !task.task_name.empty();
  auto message =
      where(task) + " " + to_string(details.exit_reason) + " while " + (running ? "running " : "idle");
  if (running) message += internal::to_string(task).substr(5);  // "'area' #41"
  if (task.attempt > 1) message += ", attempt " + std::to_string(task.attempt);
  message += '.';
  add_sentence(message, details.evidence);
  add_sentence(message, mend_for(details.exit_reason, !details.evidence.empty()));
  if (!details.backtrace.empty())
    add_sentence(message, "It crashed in " + printable(internal::first_of_program(details.backtrace)) + '.');
  if (running) {
    add_sentence(
        message,
        task.attempt > 1 ? "All its attempts were used; mend what kills its worker."
        : task.item
            ? "The item was not tried again: if it may run twice, set MapOptions::retries."
            : "The task was not retried; resubmit it if it is idempotent, or set TaskOptions::retries.");
  }
  constexpr std::size_t lines = 3;
  const auto& log = details.last_log_lines;
  if (!log.empty()) {
    message += " It logged last:";
    for (auto line = log.end() - static_cast<std::ptrdiff_t>(std::min(log.size(), lines)); line != log.end();
         ++line) {
      message += "\n  " + printable(*line);
    }
  }
  return message;
}

/// A task that waited too long has no worker; what has no id is an initializer.
std::string timeout_message(const internal::TaskFacts& task, std::chrono::nanoseconds limit,
                            std::chrono::nanoseconds ran_for) {
  std::string message = internal::to_string(task);
  if (task.worker < 0) {
    return message + " waited for a worker longer than its queue_timeout of " + text_of(limit) +
           ", and never began. Raise TaskOptions::queue_timeout, or use more workers.";
  }
  const bool initializer = task.task_id == 0;
  if (initializer) message = "the initializer";
  message += " ran for " + text_of(ran_for) + " in " + where(task) + ", longer than " +
             (initializer ? "initializer_timeout, " : "its timeout of ") + text_of(limit);
  return message + ", and its worker was killed. " +
         (initializer
              ? "Raise ExecutorOptions::initializer_timeout, or mend what it waits for."
              : "Raise TaskOptions::timeout, or let the task look at stop_requested() and set a soft_timeout.");
}

}  // namespace

namespace internal {

std::string to_string(const TaskFacts& facts) {
  std::string text = "task";
  if (!facts.task_name.empty()) text += " '" + facts.task_name + "'";
  if (facts.task_id != 0) text += " #" + std::to_string(facts.task_id);
  if (facts.item) text += " (item " + std::to_string(*facts.item) + ")";
  return text;
}

std::exception_ptr name_item(const std::exception_ptr& error, std::uint64_t item) {
  try {
    std::rethrow_exception(error);
  } catch (const WorkerLost& lost) {
    auto details = lost.shared_->details;
    details.task.item = item;
    return std::make_exception_ptr(WorkerLost{std::move(details)});
  } catch (const TaskTimeout& late) {
    TaskFacts facts = *late.facts_;
    facts.item = item;
    return std::make_exception_ptr(TaskTimeout{facts, late.limit(), late.ran_for()});
  } catch (...) {
    return error;
  }
}

RemoteStack::RemoteStack(std::vector<std::uint64_t> frames, std::shared_ptr<const CodeBook> code)
    : frames_{std::move(frames)}, code_{std::move(code)} {}

const std::string& RemoteStack::text() const {
  std::call_once(named_, [&] {
    constexpr std::size_t most = 32;
    constexpr std::size_t runtime_frames =
        12;  // within which the C++ runtime's own frames are, sanitizers' among them
    std::span<const CodeReference> frames{frames_};
    for (std::size_t i = std::min(runtime_frames, frames.size()); i-- > 0;) {
      const void* const at = code_->address(frames[i]);
      const std::string name = at == nullptr ? std::string{} : function_name(at);
      if (!name.ends_with("__cxa_throw") && !name.ends_with("__cxa_rethrow") &&
          !name.ends_with("rethrow_exception"))
        continue;
      frames = frames.subspan(i + 1);
      break;
    }
    text_ = name_frames(frames.first(std::min(most, frames.size())), *code_);
  });
  return text_;
}

}  // namespace internal

TaskError::TaskError(std::shared_ptr<const internal::TaskErrorDetails> details) noexcept
    : Error{ErrorKind::task},
      AboutTask{std::shared_ptr<const internal::TaskFacts>{details, &details->facts}},
      details_{std::move(details)} {}
TaskError::~TaskError() = default;

const std::string& TaskError::backtrace() const {
  static const std::string none;
  return details_->stack ? details_->stack->text() : none;
}

WorkerLost::WorkerLost(Details details)
    : WorkerLost{[&] {
                   auto message = lost_message(details);
                   return std::make_shared<const Shared>(Shared{details, std::move(message)});
                 }(),
                 details.task} {}
WorkerLost::WorkerLost(std::shared_ptr<const Shared> shared, const internal::TaskFacts& task)
    : Error{ErrorKind::worker_lost},
      AboutTask{std::make_shared<const internal::TaskFacts>(task)},
      shared_{std::move(shared)} {}

BrokenProcessPool::BrokenProcessPool(std::string_view why, std::exception_ptr cause,
                                     const internal::TaskFacts& task)
    : Error{ErrorKind::broken_pool}, cause_{std::move(cause)} {
  std::string message;
  if (task.task_id != 0 || !task.task_name.empty())
    message = internal::to_string(task) + " did not run, because ";
  message += "the pool is broken: ";
  message += why;
  if (!message.ends_with('.')) message += '.';
  if (cause_) add_sentence(message, "The cause: " + internal::describe_exception(cause_));
  if (!message.ends_with('.')) message += '.';
  add_sentence(message, "Mend the cause, and make another executor: this one takes no more tasks.");
  message_ = std::make_shared<const std::string>(std::move(message));
}

TaskTimeout::TaskTimeout(const internal::TaskFacts& task, std::chrono::nanoseconds limit,
                         std::chrono::nanoseconds ran_for)
    : Error{ErrorKind::task_timeout},
      AboutTask{std::make_shared<const internal::TaskFacts>(task)},
      limit_{limit},
      ran_for_{ran_for},
      message_{std::make_shared<const std::string>(timeout_message(task, limit, ran_for))} {}

Cancelled::Cancelled(const internal::TaskFacts& task, std::string_view how)
    : Error{ErrorKind::cancelled},
      AboutTask{std::make_shared<const internal::TaskFacts>(task)},
      message_{std::make_shared<const std::string>(internal::to_string(task) + " was cancelled" +
                                                   (how.empty() ? "" : " ") + std::string{how} +
                                                   ". It has no value: ask cancelled() before get().")} {}

}  // namespace kindred
