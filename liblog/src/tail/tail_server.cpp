#include "tail/tail_server.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

#include <fmt/format.h>

#include "kindred/error.hpp"
#include "kindred/internal/escape.hpp"
#include "kindred/internal/files.hpp"
#include "kindred/internal/json_formatter.hpp"
#include "kindred/internal/local_socket.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/service_thread.hpp"
#include "kindred/start_method.hpp"

namespace kindred::internal {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::size_t max_tails = 16;
constexpr unsigned max_refused =
    64;  ///< then the door is shut: a visitor that knocks for ever costs the pool time
constexpr auto request_patience = 2s;
constexpr auto end_patience = 100ms;
constexpr std::size_t longest_request = 64 * 1024;
constexpr std::size_t piece_bytes = 64 * 1024;   ///< copied out of the history at once, and sent at once
constexpr std::size_t max_kept_bytes = 4 << 20;  ///< of the lines that come first

Descriptor take_a_name(ContextId context) {
  const std::string name = tail_name(user_id(), context.owner_pid(), context.serial());
  try {
    return listen_locally(name);
  } catch (const SystemError& error) {
    if (error.code().value() != EADDRINUSE) throw;
    // Anyone may take a name first, or have it from a process of this number that is gone: the next one does
    // as well.
    return listen_locally(name + "+");
  }
}

}  // namespace

TailServer::TailServer(ContextId context, std::shared_ptr<History> history,
                       std::function<std::size_t()> workers)
    : context_{context},
      uid_{user_id()},
      workers_{std::move(workers)},
      shared_{std::make_shared<Shared>()},
      listener_{take_a_name(context)} {
  shared_->history = std::move(history);
}

void TailServer::offer(std::string word, TailAnswer answer) {
  auto more = std::make_shared<Answers>(*answers_);
  more->insert_or_assign(std::move(word), std::move(answer));
  answers_ = std::move(more);  // visitors keep those that were offered when they came
}

std::string TailServer::facts() const {
  TextBuffer line;
  line.append(
      fmt::format("{} pid={} serial={} start_method={} workers={} since={} program=", tail_answer::info,
                  context_.owner_pid(), context_.serial(), to_string(context_.start_method()), workers_(),
                  std::chrono::duration_cast<std::chrono::seconds>(since_.time_since_epoch()).count()));
  line.push_back('"');
  append_escaped(line, executable_path(), EscapeIn::field_quotes);
  line.append("\"\n");
  return std::string{line.view()};
}

void TailServer::forget_ended() {
  for (auto& running : tails_) {
    if (running.tail->ended.load(std::memory_order_acquire)) running.thread.join();
  }
  std::erase_if(tails_, [](const Running& running) { return !running.thread.joinable(); });
}

std::string TailServer::answer() {
  forget_ended();
  Descriptor socket = accept_locally(listener_.get());
  if (!socket) {
    if ((errno != EMFILE && errno != ENFILE) || std::exchange(told_shortage_, true)) return {};
    return "kindred-tail knocks, and this process has no descriptor left to let it in: raise the limit on open files (ulimit -n)";
  }
  told_shortage_ = false;
  const auto refuse = [&socket](const std::string& why) {
    static_cast<void>(send_some(socket.get(), fmt::format("{} {}\n", tail_answer::refused, why)));
  };
  const auto peer = peer_of(socket.get());
  if (!peer || (peer->uid != uid_ && peer->uid != 0)) {
    refuse(fmt::format("this pool is of user {}; only that user and root may follow it", uid_));
    ++refused_;
    const auto who =
        peer ? fmt::format("user {} (pid {})", peer->uid, peer->pid) : std::string{"an unknown user"};
    if (refused_ == max_refused) {
      stop_listening(listener_.get());  // also where a fork of the program holds a copy
      offered_ = false;
      return fmt::format("kindred-tail of {} was refused, the {}th: this log is not offered any more", who,
                         refused_);
    }
    return refused_ == 1
               ? fmt::format("kindred-tail of {} was refused: this log is for user {} and root", who, uid_)
               : std::string{};
  }
  if (tails_.size() >= max_tails) {
    refuse(fmt::format("{} tails are connected to this pool, which are as many as may be", tails_.size()));
    return {};
  }
  auto tail = std::make_shared<Tail>(std::move(socket), shared_);
  tail->facts = facts();
  tail->answers = answers_;
  tails_.reserve(tails_.size() + 1);
  std::thread thread{[tail] { tail->run(); }};
  tails_.push_back({std::move(tail), std::move(thread)});
  return {};
}

void TailServer::end(bool wait) noexcept {
  listener_.reset();
  if (!shared_->ending.load(std::memory_order_relaxed)) {
    shared_->end_by = Clock::now() + end_patience;
    shared_->ending.store(true, std::memory_order_release);
  }
  for (const auto& running : tails_) running.tail->bell.ring();
  for (auto& running : tails_) {
    if (wait)
      running.thread.join();
    else
      running.thread.detach();
  }
  tails_.clear();
}

void TailServer::Tail::run() noexcept {
  begin_service_thread("kindred-tail");
  try {
    TailRequest request;
    if (read_request(request)) {
      give_answer(request);
    } else {
      static_cast<void>(
          send(fmt::format("{} the request makes no sense; is this kindred-tail of the same version?\n",
                           tail_answer::refused)));
    }
  } catch (const std::exception&) {
    // No memory: the connection ends here.
  }
  socket.reset();
  ended.store(true, std::memory_order_release);
}

void TailServer::Tail::give_answer(const TailRequest& request) {
  if (request.ask == TailRequest::records) {
    begin_background_thread("kindred-tail");
    return send_records(request);
  }
  if (request.ask == TailRequest::facts) {
    static_cast<void>(send(facts));
    return;
  }
  if (const auto found = answers->find(request.ask); found != answers->end())
    return found->second(request, *this);
  TextBuffer line;
  line.append(fmt::format("{} this pool has no answer to '", tail_answer::refused));
  append_escaped(line, request.ask);
  line.append("'\n");
  static_cast<void>(send(line.view()));
}

bool TailServer::Tail::read_request(TailRequest& request) const {
  const auto until = Clock::now() + request_patience;
  std::string line;
  while (line.find('\n') == std::string::npos) {
    char bytes[1024];
    const auto got = receive_some(socket.get(), bytes, sizeof bytes);
    if (got == 0 || (got < 0 && got != -EAGAIN)) return false;
    if (got > 0) {
      line.append(bytes, static_cast<std::size_t>(got));
      if (line.size() > longest_request) return false;
      continue;
    }
    if (shared->ending.load(std::memory_order_acquire) || Clock::now() >= until) return false;
    static_cast<void>(wait_for_socket(socket.get(), false, bell.fd(), until));
  }
  const auto parsed = TailRequest::parse(std::string_view{line}.substr(0, line.find('\n')));
  if (parsed) request = *parsed;
  return parsed.has_value();
}

/// Sends all of it. False: the visitor has gone, or the time at the end is over.
bool TailServer::Tail::send(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto sent = send_some(socket.get(), text);
    if (sent > 0) {
      text.remove_prefix(static_cast<std::size_t>(sent));
      continue;
    }
    if (sent != -EAGAIN) return false;
    Deadline until;
    if (shared->ending.load(std::memory_order_acquire)) {
      until = shared->end_by;
      if (Clock::now() >= *until) return false;
    }
    // News of the history ring as well, and are not wanted now. After the end there are no rings.
    const auto news = wait_for_socket(socket.get(), true, until ? -1 : bell.fd(), until);
    if (news.gone) return false;
    if (news.also) static_cast<void>(bell.clear());
  }
  return true;
}

bool TailServer::Tail::pause(Clock::time_point until) noexcept {
  while (Clock::now() < until) {
    if (shared->ending.load(std::memory_order_acquire)) return false;
    const auto news = wait_for_socket(socket.get(), false, bell.fd(), until);
    if (news.also) static_cast<void>(bell.clear());
    if (news.gone || news.readable) return false;
  }
  return true;
}

/// Calls `take(line)` for each kept record in `bytes` that is asked for, as a JSON line. False: `take` did.
class TailServer::WantedRecords {
 public:
  explicit WantedRecords(const TailRequest& request) : request_{request} {}
  template <class Take>
  bool each(std::vector<std::byte>& bytes, Take&& take) {
    for (std::size_t at = 0; at < bytes.size();) {
      KeptRecord kept;
      std::memcpy(&kept, bytes.data() + at, sizeof kept);
      const std::span<const std::byte> entry{bytes.data() + at, kept.bytes};
      at += kept.bytes;
      if (!request_.may_accept(kept) || !read_kept(entry, record_, message_) || !request_.accepts(record_))
        continue;
      if (!take(json_, record_)) return false;
    }
    bytes.clear();
    return true;
  }

 private:
  const TailRequest& request_;
  JsonFormatter json_{{}, {}};
  LogRecord record_;
  TextBuffer message_;
};

/// Sends the last that fit, of what was kept when the visitor came: all is gone through once, because records
/// are not indexed by what they are asked for.
bool TailServer::Tail::send_last(const TailRequest& request, std::uint64_t end) {
  const History& history = *shared->history;
  WantedRecords wanted{request};
  TextBuffer out;
  std::vector<std::byte> bytes;
  auto place = history.oldest();
  std::deque<std::string> lines;
  std::size_t lines_bytes = 0;
  while (place.position < end) {
    static_cast<void>(history.copy(place, bytes, std::min<std::size_t>(piece_bytes, end - place.position)));
    wanted.each(bytes, [&](JsonFormatter& json, const LogRecord& record) {
      out.clear();
      json.append(record, out);
      out.push_back('\n');
      lines.emplace_back(out.view());
      lines_bytes += out.size();
      while (lines.size() > request.last || (lines_bytes > max_kept_bytes && lines.size() > 1)) {
        lines_bytes -= lines.front().size();
        lines.pop_front();
      }
      return true;
    });
  }
  for (const auto& line : lines) {
    if (!send(line)) return false;
  }
  return true;
}

/// Sends what was read of the history, a piece at a time. False: the visitor has gone.
bool TailServer::Tail::send_wanted(WantedRecords& wanted, std::vector<std::byte>& bytes, std::uint64_t lost) {
  TextBuffer out;
  if (lost != 0) out.append(fmt::format("{} {}\n", tail_answer::lost, lost));
  const bool there = wanted.each(bytes, [&](JsonFormatter& json, const LogRecord& record) {
    json.append(record, out);
    out.push_back('\n');
    if (out.size() < piece_bytes) return true;
    const bool taken = send(out.view());
    out.clear();
    out.shrink(1 << 20);
    return taken;
  });
  return there && send(out.view());
}

/// Waits for records behind `place`. False: there will be none for this visitor.
bool TailServer::Tail::wait_for_records(const History::Place& place) {
  const History& history = *shared->history;
  bool gone = false;
  const auto next = history.next(place, [&] {
    if (shared->ending.load(std::memory_order_acquire)) return;
    const auto news = wait_for_socket(socket.get(), false, bell.fd(), {});
    if (news.also) static_cast<void>(bell.clear());
    // The visitor has nothing more to say: readable means gone, or talking out of turn.
    gone = news.gone || news.readable;
  });
  if (gone) return false;
  const bool is_end = next == History::Next::closed ||
                      (next == History::Next::nothing && shared->ending.load(std::memory_order_acquire));
  // Published between the look and the end is what was committed before it.
  if (!is_end || history.newest().position > place.position) return true;
  static_cast<void>(send(fmt::format("{}\n", tail_answer::end)));
  return false;
}

void TailServer::Tail::send_records(const TailRequest& request) {
  History& history = *shared->history;
  WantedRecords wanted{request};
  std::vector<std::byte> bytes;
  auto place = history.newest();
  const auto end = place.position;
  if (request.last == TailRequest::all)
    place = history.oldest();
  else if (request.last != 0 && !send_last(request, end))
    return;

  const struct Hearing {
    History& history;
    const Doorbell& bell;
    Hearing(History& its_history, const Doorbell& its_bell) : history{its_history}, bell{its_bell} {
      history.hear(bell);
    }
    Hearing(const Hearing&) = delete;
    Hearing& operator=(const Hearing&) = delete;
    ~Hearing() { history.stop_hearing(bell); }
  } hearing{history, bell};
  do {
    if (!request.follow && place.position >= end) {
      static_cast<void>(send(fmt::format("{}\n", tail_answer::done)));
      return;
    }
    const std::size_t most =
        request.follow ? piece_bytes : std::min<std::size_t>(piece_bytes, end - place.position);
    const auto lost = history.copy(place, bytes, most);
    if (!send_wanted(wanted, bytes, lost)) return;
  } while (!request.follow || wait_for_records(place));
}

}  // namespace kindred::internal
