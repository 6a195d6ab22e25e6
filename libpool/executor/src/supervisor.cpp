#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>

#include "kindred/error.hpp"
#include "kindred/internal/capture_pipe.hpp"
#include "kindred/internal/clock.hpp"
#include "kindred/internal/crash_report.hpp"
#include "kindred/internal/exit_codes.hpp"
#include "kindred/internal/injection.hpp"
#include "kindred/internal/task_entry.hpp"
#include "pool_core.hpp"
#include "sent_memories.hpp"
#include "supervise/attempt_limits.hpp"
#include "worker_process.hpp"

// The supervisor's thread: starts workers, hears their bells and messages, keeps time, buries the dead.
namespace kindred::internal {
namespace {

using std::chrono::steady_clock;

// Tokens of the poll: which incarnation of which slot, and which of its descriptors.
enum : std::uint64_t { token_interrupt = 1, token_launcher = 3, token_tail = 2, token_slots = 16 };
constexpr std::uint64_t first_incarnation = std::uint64_t{1} << 32U;
enum class Watched : std::uint64_t { process = 0, socket = 1, captured_stdout = 2, captured_stderr = 3 };
std::uint64_t token_of(const WorkerSlot& slot, Watched what) noexcept {
  return slot.incarnation * first_incarnation + token_slots + static_cast<std::uint64_t>(slot.index) * 4 +
         static_cast<std::uint64_t>(what);
}

constexpr std::chrono::milliseconds hand_retry{2};
// A silent worker is replaced after this, where tasks wait: one that runs what it says it does not would be
// silent for ever.
constexpr std::chrono::seconds silence_limit{2};
// A worker that ends closes its socket a moment before it is found dead. One that has closed it and lives is
// none any more: it executes another program.
constexpr std::chrono::milliseconds mute_limit{100};
constexpr std::chrono::seconds between_looks_for_stops{1};
// A guest who cannot be let in, for want of a descriptor, goes on knocking.
constexpr std::chrono::milliseconds between_guests{20};
// Shared memories that come for one result: its attachments, and the value.
constexpr std::size_t most_received = most_attachments + 1;

// How long memory for large arguments and results is kept for the next ones.
constexpr std::chrono::milliseconds blocks_stay{50};
// After memory ended while the supervisor did something.
constexpr std::chrono::milliseconds memory_retry{10};
constexpr std::chrono::milliseconds call_retry{100};

std::chrono::nanoseconds duration_of(std::uint64_t ticks_count) {
  return std::chrono::nanoseconds{
      static_cast<std::int64_t>(static_cast<double>(ticks_count) / ticks_per_nanosecond())};
}

}  // namespace

void PoolCore::start_supervisor() {
  if (supervisor_runs_) return;
  // All of it or nothing: whoever asked learns what is missing, and may ask again.
  auto poll = std::make_unique<EventPoll>(context_.service_bell());
  (void)context_.waiter_bell();  // made now, so that it exists before a thread sleeps on it
  if (interrupt_) poll->add(interrupt_->bell().fd(), token_interrupt);
  tail_fd_ = collector_.offer_tail();
  if (tail_fd_ >= 0) poll->add(tail_fd_, token_tail);
  poll_ = std::move(poll);
  try {
    supervisor_ = std::thread{[this] { supervise(); }};
  } catch (const std::system_error& error) {
    throw SystemError{"pthread_create", error.code().value(), "starting the executor's supervisor"};
  }
  supervisor_runs_ = true;
}

void PoolCore::supervise() {
  settle_thread("kindred-super");
  std::vector<std::uint64_t> tokens;
  Lock lock{mutex_};
  for (bool goes_on = true; goes_on;) {
    try {
      goes_on = supervise_once(lock, tokens);
    } catch (const std::bad_alloc&) {
      // What it came to is still there to be done, once there is memory again: a bell or a descriptor says so
      // until it is.
      if (lock.owns_lock()) lock.unlock();
      std::this_thread::sleep_for(memory_retry);
      lock.lock();
    } catch (const SystemError& error) {
      // A call failed that none of the steps expects to fail. The program does not end by it: the step is
      // tried again, and the log says what failed.
      if (lock.owns_lock()) lock.unlock();
      std::this_thread::sleep_for(call_retry);
      lock.lock();
      note(Level::error,
           std::string{"the executor's supervisor goes on after a failed call: "} + error.what());
    }
  }
  flush_afterwards(lock);
}

bool PoolCore::supervise_once(Lock& lock, std::vector<std::uint64_t>& tokens) {
  if (!pump() && in_flight_ != 0 && leader_ == nullptr) look_found_nothing();
  check_timers();
  check_slots(lock);
  if (stop_supervisor_) return false;
  // While somebody submits, he takes results in himself, and a look now and then is enough: bells would wake
  // us for each of them.
  watched_by_timer_ = leader_ == nullptr && totals_.submitted != submitted_seen_ &&
                      with_continuations_ == 0 && bounded_waiting_ == 0 && !closed_;
  submitted_seen_ = totals_.submitted;
  if (watched_by_timer_) {
    look_again_soon();
  } else if (leader_ == nullptr) {
    bells_stale_ = true;
    arm_all();
    if (pump()) return true;  // it came before the bell was armed
  }
  const Deadline deadline = next_deadline();
  supervisor_sleeps_until_ = deadline ? *deadline : SteadyTime::max();
  flush_afterwards(lock);
  // What was killed before is no evidence for what dies from now on. Read where no start waits for it.
  if (!oom_kills_seen_) oom_kills_seen_ = oom_kills();
  // Tokens that are left are of a round in which memory ended, or a call failed: the poll does not say them
  // again.
  if (tokens.empty()) poll_->wait(tokens, deadline);
  if (const auto tail = std::ranges::find(tokens, token_tail); tail != tokens.end()) {
    answer_tail();
    tokens.erase(tail);
  }
  lock.lock();
  ++supervisor_wakeups_;
  supervisor_sleeps_until_ = SteadyTime::min();
  for (; !tokens.empty(); tokens.pop_back()) heed(lock, tokens.back());
  return true;
}

void PoolCore::answer_tail() {
  if (collector_.answer_tail()) {
    tail_again_ = steady_clock::now() + between_guests;
  } else {
    poll_->remove(tail_fd_);
    collector_.withdraw_tail();
  }
}

// Does what a descriptor that the poll heard of asks for. Where it throws, it is called again with the token.
void PoolCore::heed(Lock& lock, std::uint64_t token) {
  if (token == token_interrupt) {
    (void)interrupt_->bell().clear();
    check_interrupt(lock);
    poll_->again(interrupt_->bell().fd(), token_interrupt);
    return;
  }
  if (token < token_slots) return;
  WorkerSlot& slot = *slots_[(token % first_incarnation - token_slots) / 4];
  if (!slot.watched || token / first_incarnation != slot.incarnation) return;
  switch (static_cast<Watched>((token - token_slots) % 4)) {
    case Watched::process: slot.found_dead = true; return;
    case Watched::socket:
      if (take_messages(slot)) poll_->again(slot.worker.socket.fd(), token);
      return;
    default: return;
  }
}

void PoolCore::check_slots(Lock& lock) {
  listen_to_launcher(false);  // what follows may close its descriptor, and another one may get the number
  // By index: a burial gives the lock away, and the list may grow.
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i]->found_dead) bury(lock, *slots_[i]);
  }
  const auto now = steady_clock::now();
  for (const auto& slot : slots_) check_worker(*slot, now);
  check_deferred_looks(now);
  check_start(lock);
  start_wanted(lock, now);
  listen_to_launcher(launching_.preparing_since || launching_.start ||
                     std::ranges::any_of(slots_, [](const auto& slot) { return slot->found_dead; }));
  if (closed_ && nothing_left()) {
    end_when_all_left(lock);
  } else if (wanted_ == 0 && starts_.may_start(now)) {
    want_workers_now();
  }
}

// Kills a worker that ran over a limit of its own, and asks one to leave that is not needed.
void PoolCore::check_worker(WorkerSlot& slot, SteadyTime now) {
  const bool alive = slot.state == WorkerSlot::State::alive;
  if (slot.state == WorkerSlot::State::leaving && slot.end.leave_by <= now && slot.in_flight.empty())
    kill(slot, WorkerSlot::KillReason::shutdown);
  if (alive && !slot.ready && options_.initializer_timeout &&
      slot.started + *options_.initializer_timeout <= now) {
    kill(slot, WorkerSlot::KillReason::initializer_timeout);
  }
  if (slot.silent() && alive && still_silent(slot) && *slot.silent_since + silence_limit <= now) {
    const auto good = std::ranges::count_if(
        slots_, [](const auto& other) { return other->takes_calls() && !other->silent(); });
    if (waiting_.size() + in_flight_ > static_cast<std::size_t>(good))
      kill(slot, WorkerSlot::KillReason::silence);
  }
  if (alive || slot.state == WorkerSlot::State::leaving) check_stopped(slot, now);
  if (slot.mute_since && slot.watched && *slot.mute_since + mute_limit <= now &&
      slot.kill_reason == WorkerSlot::KillReason::none) {
    slot.last_words.protocol_error =
        "it closed its socket and went on: a task executes another program in its place";
    kill(slot, WorkerSlot::KillReason::mute);
  }
  if (options_.idle_timeout && slot.idle() && slot.ready && slot.idle_since + *options_.idle_timeout <= now)
    ask_to_leave(slot);
  if (static_cast<std::size_t>(slot.index) >= max_workers() && slot.state == WorkerSlot::State::alive) {
    take_back_all(slot);
    ask_to_leave(slot);
  }
}

void PoolCore::check_deferred_looks(SteadyTime now) {
  if (launching_.tidy_at && *launching_.tidy_at <= now) launching_.tidy_at = context_.launcher().tidy_up();
  if (rebalance_at_ && *rebalance_at_ <= now) {
    refill();
    rebalance();
  }
  if (tail_again_ && *tail_again_ <= now) {
    tail_again_.reset();
    poll_->again(tail_fd_, token_tail);
  }
  if (release_blocks_at_ && *release_blocks_at_ <= now) {
    release_blocks_at_.reset();
    release_idle_blocks();
  }
  if (!release_blocks_at_ && blocks_are_free_.load(std::memory_order_relaxed))
    release_blocks_at_ = now + blocks_stay;
  // A call that could not be dispatched to a worker that has nothing to do is tried again: the kernel had no
  // room for the descriptor of the call's memory.
  if (!waiting_.empty() && !rebalance_at_ &&
      std::ranges::any_of(slots_, [](const auto& slot) { return slot->idle() && slot->ready; })) {
    rebalance_at_ = now + hand_retry;
  }
}

void PoolCore::start_wanted(Lock& lock, SteadyTime now) {
  while (wanted_ != 0 && !launching_.start && starts_.may_start(now)) {
    const bool ends = ended_ || broken_ || (closed_ && outstanding_ == 0);
    WorkerSlot* const slot = ends ? nullptr : free_slot();
    if (slot == nullptr) {
      wanted_ = 0;
      return;
    }
    if (!prepare_launcher(lock)) return;
    --wanted_;
    begin_start(lock, *slot);
  }
}

// The pool is shut down and has no work left: all workers are asked to leave, and with the last one the
// supervisor ends, or, after a Ctrl-C, the process.
void PoolCore::end_when_all_left(Lock& lock) {
  for (const auto& slot : slots_) {
    if (slot->state == WorkerSlot::State::alive) ask_to_leave(*slot);
  }
  if (live_workers() != 0) return;
  if (interrupt_ && interrupt_->count() != 0) {
    flush_afterwards(lock);
    (void)collector_.shutdown(steady_clock::now() + options_.log.flush_limit);
    exit_now(exit_code::interrupted);
  }
  stop_supervisor_ = true;
  changed_.notify_all();
}

void PoolCore::block_freed() noexcept {
  if (blocks_are_free_.load(std::memory_order_relaxed) ||
      blocks_are_free_.exchange(true, std::memory_order_relaxed) || !here())
    return;
  try {
    kick();
  } catch (const SystemError&) {
    // There is no supervisor yet, nor a descriptor for its bell: it looks when it starts.
  }
}

void PoolCore::give_back_room(void* of_a_task) noexcept {
  constexpr std::int64_t nearly_all = 64;  // more than threads give one back at once, mostly
  if (!tasks_.is_large() || tasks_.in_use() > nearly_all) [[likely]] {
    if (!tasks_.give_back(of_a_task)) release();
    return;
  }
  retain();  // so that one can look afterwards
  const bool counted = tasks_.give_back(of_a_task);
  if (counted && tasks_.in_use() == 0) block_freed();
  if (!counted) release();
  release();
}

void PoolCore::release_idle_blocks() {
  blocks_are_free_.store(
      false, std::memory_order_relaxed);  // before the look: what is freed from now on says so again
  const auto forget = [this](WorkerSlot& slot, ParentMessage what, std::uint64_t id) {
    const AttachmentNotice notice{
        .message = static_cast<std::uint32_t>(what), .spare = 0, .memory_id = id, .bytes = 0};
    (void)slot.worker.socket.send(
        std::as_bytes(std::span{&notice, 1}));  // where its socket is full, it keeps the memory until it ends
    slot.header().mail.fetch_add(1, std::memory_order_release);
    wake_worker(slot);
  };
  bool more = false;
  for (const auto& block : call_blocks_.free_since(steady_clock::now() - blocks_stay)) {
    for (const auto& known : block->known_by) {
      WorkerSlot& slot = *slots_[static_cast<std::size_t>(known.slot)];
      if (slot.takes_calls() && slot.incarnation == known.incarnation)
        forget(slot, ParentMessage::forget, known.id);
    }
  }
  for (const auto& slot : slots_) {
    if (!slot->takes_calls()) continue;
    more = slot->memory.blocks.release_idle([&](std::size_t place) {
      forget(*slot, ParentMessage::forget_result, place);
    }) || more;
  }
  if (tasks_.is_large() && tasks_.in_use() == 0) tasks_.clear();
  if (more || call_blocks_.any_free()) blocks_are_free_.store(true, std::memory_order_relaxed);
}

void PoolCore::check_interrupt(Lock& lock) {
  if (interrupt_->count() > 1) {
    for (const auto& slot : slots_) kill_slot_with(*slot, SIGKILL);
    flush_afterwards(lock);
    exit_now(exit_code::interrupted);
  }
  note(
      Level::warn,
      "interrupted: pending tasks are cancelled, running ones are asked to stop and waited for. Interrupt again to kill them.");
  closed_ = true;
  finishes_chains_ = false;
  for (const auto& slot : slots_) {
    if (slot->segment && !slot->in_flight.empty()) ask_to_stop(*slot, slot->in_flight.front());
  }
  cancel_waiting();
}

WorkerSlot* PoolCore::free_slot() {
  const std::size_t most = max_workers();
  for (const auto& slot : slots_) {
    if (slot->state == WorkerSlot::State::empty && static_cast<std::size_t>(slot->index) < most)
      return slot.get();
  }
  if (slots_.size() >= most) return nullptr;
  slots_.push_back(std::make_unique<WorkerSlot>());
  slots_.back()->index = slots_.back()->stats.index = static_cast<int>(slots_.size() - 1);
  return slots_.back().get();
}

// A fork server may preload for long: nobody waits for that in here. The poll tells when there is news of it.
bool PoolCore::prepare_launcher(Lock& lock) {
  std::exception_ptr failure;
  bool ready = false;
  auto& since = launching_.preparing_since;
  if (since && options_.preload_timeout && *since + *options_.preload_timeout <= steady_clock::now()) {
    failure = std::make_exception_ptr(UsageError{
        "the fork server did not come to an end of ExecutorOptions::preload within preload_timeout, " +
        std::to_string(std::chrono::duration<double>(*options_.preload_timeout).count()) +
        " s, and was killed. Preload less, or raise preload_timeout."});
    context_.end_launcher();
  } else {
    flush_afterwards(lock);
    try {
      ready = context_.prepare_launcher();
    } catch (...) {
      failure = std::current_exception();
    }
    lock.lock();
    if (!failure && !ready && !since) since = steady_clock::now();
  }
  if (failure || ready) since.reset();
  if (!failure) return ready && wanted_ != 0;
  if (wanted_ != 0) --wanted_;
  start_failed(lock, failure);
  return false;
}

void PoolCore::listen_to_launcher(bool on) {
  if (launching_.news >= 0) poll_->remove(std::exchange(launching_.news, -1));
  const int fd = on && context_.has_launcher() ? context_.launcher().news() : -1;
  if (fd < 0) return;
  poll_->add(fd, token_launcher);
  launching_.news = fd;
}

// Asks for a worker, and takes it on where it is there within a moment, which is nearly always.
void PoolCore::begin_start(Lock& lock, WorkerSlot& slot) {
  KINDRED_ASSERT(slot.state == WorkerSlot::State::empty);
  launching_.start = std::make_unique<StartInHand>();
  launching_.start->slot = &slot;
  slot.state = WorkerSlot::State::starting;
  slot.owner = next_owner_++;
  flush_afterwards(lock);
  std::exception_ptr failure;
  try {
    ask_and_greet(*launching_.start);
  } catch (...) {
    failure = std::current_exception();
  }
  go_on_with_start(lock, std::move(failure));
}

void PoolCore::ask_and_greet(StartInHand& start) {
  const WorkerSlot& slot = *start.slot;
  // It comes up while the rest is made here.
  start.asked = context_.ask_for_worker();
  start.segment = std::make_shared<Segment>(Segment::create({.log_bytes = log_area_bytes(options_.log)}));
  start.source = collector_.add_source(start.segment->log_area(),
                                       {.worker = slot.index, .incarnation = slot.next_incarnation, .pid = 0},
                                       start.segment);
  std::vector<int> capture_fds;
  if (options_.worker.capture_output) {
    for (std::size_t i = 0; i < 2; ++i)
      std::tie(start.captures[2 * i], start.captures[2 * i + 1]) = make_capture_pipe();
    for (const auto& end : start.captures) capture_fds.push_back(end.get());
  }
  context_.greet_worker(start.asked, slot.index, slot.next_incarnation, slot.owner, *start.segment,
                        collector_.bell_fd(), capture_fds, worker_main_);
}

// A start that the fork server has not answered is gone on with, or given up where nobody wants it any more.
void PoolCore::check_start(Lock& lock) {
  if (!launching_.start) return;
  if (kill_all_ == 0 && !broken_ && !(closed_ && outstanding_ == 0)) {
    flush_afterwards(lock);
    return go_on_with_start(lock, nullptr);
  }
  WorkerSlot& slot = *launching_.start->slot;
  flush_afterwards(lock);
  drop_start();
  lock.lock();
  slot.end_incarnation();
  changed_.notify_all();
}

// Not under the lock.
void PoolCore::drop_start() {
  const auto start = std::move(launching_.start);
  if (context_.has_launcher()) context_.launcher().give_up(std::move(start->asked));
  if (start->source)
    (void)collector_.finish_source(*start->source, steady_clock::now() + std::chrono::seconds{1});
}

// Takes the lock.
void PoolCore::go_on_with_start(Lock& lock, std::exception_ptr failure) {
  StartInHand& start = *launching_.start;
  WorkerSlot& slot = *start.slot;
  std::optional<StartedWorker> worker;
  if (!failure) {
    try {
      worker = context_.launcher().started(start.asked);
      if (worker) begin_work(start, *worker);
    } catch (...) {
      failure = std::current_exception();
    }
  }
  std::optional<std::string> warning;
  if (context_.has_launcher()) warning = context_.launcher().take_warning();
  if (failure) {
    if (worker) start.asked.process = std::move(worker->process);
    drop_start();
  }
  lock.lock();
  if (warning) note(Level::warn, *warning);
  if (failure) {
    slot.end_incarnation();
    changed_.notify_all();
    start_failed(lock, failure);
  } else if (worker) {
    const auto done = std::move(launching_.start);
    adopt_worker(*done, std::move(*worker));
  }
}

void PoolCore::begin_work(StartInHand& start, const StartedWorker& worker) {
  collector_.set_source_pid(*start.source, worker.process.pid());
  start.segment->close_descriptor();
  // All of them fit: its socket is empty, and the initializer and the finalizer have a limit each.
  (void)send_memories(worker.socket, 1, start_attachments_);
}

void PoolCore::adopt_worker(StartInHand& start, StartedWorker worker) {
  WorkerSlot& slot = *start.slot;
  starts_.note_success();
  KINDRED_ASSERT(!slot.segment);
  KINDRED_ASSERT(slot.in_flight.empty());
  slot.segment = std::move(start.segment);
  slot.log_source = *start.source;
  slot.worker = std::move(worker);
  slot.captured.out = std::move(start.captures[0]);
  slot.captured.error = std::move(start.captures[2]);
  slot.incarnation = slot.next_incarnation++;
  SegmentHeader& header = slot.header();
  KINDRED_INJECTION_POINT("parent.start.adopted");
  slot.calls = RingWriter<>{slot.segment->call_room(), header.calls};
  slot.results = RingReader<>{slot.segment->result_room(), header.results};
  slot.sent.modules = context_.modules_told();
  slot.sent.memory_id = start_attachments_.size();
  slot.memory.blocks = ResultBlocks{slot.segment, [this] { block_freed(); }};
  slot.started = slot.idle_since = steady_clock::now();
  // As many workers may spin as there are cores beyond the one that waits for them.
  header.spin_nanoseconds.store(
      options_.spin && static_cast<unsigned>(slot.index) + 1 < usable_cpus_ ? 200'000U : 0U,
      std::memory_order_relaxed);
  slot.state = WorkerSlot::State::alive;
  try {
    poll_->add(slot.worker.process.pidfd(), token_of(slot, Watched::process));
    poll_->add(slot.worker.socket.fd(), token_of(slot, Watched::socket));
    slot.watched = true;
  } catch (const SystemError&) {
    kill(slot, WorkerSlot::KillReason::shutdown);
    slot.watched = slot.found_dead = true;
    kick();  // nothing else tells us of its death
  }
  note(Level::debug,
       "worker " + std::to_string(slot.index) + " (pid " + std::to_string(slot.worker.process.pid()) +
           ") started by " + std::string{to_string(context_.start_method())} +
           (slot.incarnation == 0 ? "" : ", incarnation " + std::to_string(slot.incarnation)),
       &slot);
  if (kill_all_ != 0) kill_slot_with(slot, kill_all_);
  watch_worker(slot, true);
  refill();
}

void PoolCore::start_failed(Lock& lock, const std::exception_ptr& failure) {
  std::string text;
  bool hopeless = false;
  try {
    std::rethrow_exception(failure);
  } catch (const ServerLost&) {
    ++wanted_;  // at once: the launcher has counted how often it came to that
    return;
  } catch (const UsageError& error) {
    text = error.what();
    hopeless = true;  // preload threw, builds differ: it will not be better the next time
  } catch (const std::exception& error) {
    text = error.what();
  }
  if (!starts_.note_failure(steady_clock::now(), hopeless, live_workers())) {
    break_pool(lock, failure, "no worker could be started");
    return;
  }
  note(Level::warn, "a worker could not be started, and is tried again: " + text);
  ++wanted_;
}

bool PoolCore::take_messages(WorkerSlot& slot) {
  const auto refuse = [&](std::string why) {
    condemn(slot, std::move(why));
    return false;
  };
  // Most kinds are taken once, and no more at a time than a socket holds: a worker that writes without end
  // does not keep us here.
  for (int count = 0; count < 512; ++count) {
    bool closed = false;
    auto message = slot.worker.socket.receive(SteadyTime{}, &closed);
    if (!message) {
      if (!closed || !slot.watched) return !closed;
      poll_->remove(slot.worker.socket.fd());
      slot.mute_since = steady_clock::now();
      return false;
    }
    std::uint32_t kind = 0;
    if (message->bytes.size() < sizeof kind || message->cut)
      return refuse("a message on its socket is malformed");
    std::memcpy(&kind, message->bytes.data(), sizeof kind);
    if (kind != static_cast<std::uint32_t>(WorkerMessage::attachment) && !message->descriptors.empty())
      return refuse("a message on its socket carries descriptors that none was to carry");
    const auto rest = std::span<const std::byte>{message->bytes}.subspan(sizeof kind);
    switch (static_cast<WorkerMessage>(kind)) {
      case WorkerMessage::ready:
        if (slot.ready) return refuse("it said twice that it is ready");
        slot.ready = true;
        slot.idle_since = steady_clock::now();
        refill();
        rebalance();
        break;
      case WorkerMessage::bootstrap_failed:
        if (slot.ready || !slot.last_words.bootstrap_error.empty())
          return refuse("its bootstrap failed after it was ready, or twice");
        slot.last_words.bootstrap_error.assign(reinterpret_cast<const char*>(rest.data()), rest.size());
        break;
      case WorkerMessage::initializer_failed:
        if (slot.ready || slot.last_words.initializer_failed)
          return refuse("its initializer failed after it was ready, or twice");
        slot.last_words.initializer_failed = true;
        slot.last_words.failure_bytes.assign(rest.begin(), rest.end());
        break;
      case WorkerMessage::finalizer_failed: {
        if (slot.last_words.finalizer_failed) return refuse("its finalizer failed twice");
        slot.last_words.finalizer_failed = true;
        TaskFacts who;
        who.task_name = "finalizer";
        who.worker = slot.index;
        who.pid = slot.worker.process.pid();
        who.incarnation = slot.incarnation;
        Decoder decoder{context_.id(), rest};
        std::string text = "the finalizer of worker " + std::to_string(slot.index) + " failed";
        try {
          std::rethrow_exception(decode_exception(decoder, who));
        } catch (const std::exception& error) {
          text += std::string{": "} + error.what();
        }
        note(Level::error, std::move(text), &slot);
        break;
      }
      case WorkerMessage::forked_child: {
        ForkedChild notice;
        if (message->bytes.size() != sizeof notice) return refuse("a message on its socket is malformed");
        std::memcpy(&notice, message->bytes.data(), sizeof notice);
        note_forked_child(slot, notice.pid);
        break;
      }
      case WorkerMessage::attachment: {
        AttachmentNotice notice;
        if (message->bytes.size() != sizeof notice || message->descriptors.size() > 1 || !slot.ready) {
          return refuse("a notice of shared memory is malformed");
        }
        // What it sent belongs to results that are in its ring, but for those of the one that it writes now.
        if (slot.memory.received.size() >= most_received) (void)pump_slot(slot);
        if (slot.memory.received.size() >= most_received)
          return refuse("it sent more shared memories than a result can have");
        std::memcpy(&notice, message->bytes.data(), sizeof notice);
        const bool kept = (notice.memory_id & memory_is_kept) != 0;
        const std::uint64_t id = notice.memory_id & ~memory_is_kept;
        if (kept && id >= ResultBlocks::most) return refuse("a notice of shared memory is malformed");
        try {
          if (message->descriptors.empty()) {
            throw SystemError{"recvmsg", EMFILE, "taking in a result's shared memory"};
          }
          auto memory = std::make_shared<SharedMemory>(
              SharedMemory::adopt(std::move(message->descriptors[0]), notice.bytes));
          if (kept) {
            memory->close_descriptor();  // for values only; an attachment may be sent on
            slot.memory.blocks.add(id, std::move(memory));
          } else {
            slot.memory.received[id] = std::move(memory);
          }
        } catch (const UsageError& error) {
          return refuse(error.what());
        } catch (const SystemError& error) {
          slot.memory.missing = error;
        } catch (const std::bad_alloc&) {
          slot.memory.ended = true;
        }
        break;
      }
      default: return refuse("a message on its socket has the unknown kind " + std::to_string(kind));
    }
  }
  return true;
}

void PoolCore::note_forked_child(WorkerSlot& slot, std::uint32_t pid) {
  constexpr unsigned most_told = 8;  // of one incarnation
  if (slot.untidy.forked_children++ >= most_told) return;
  const TaskState* const task = slot.in_flight.empty() ? nullptr : slot.in_flight.front().task;
  std::string text =
      "a process (pid " + std::to_string(pid) + ") that a task of worker " + std::to_string(slot.index) +
      " forked came out of the task's function and was ended: " +
      "only the worker itself gives results. End such a process by _exit(2), also where it fails.";
  if (slot.untidy.forked_children == most_told) text += " Further ones of this worker are not told.";
  note(Level::warn, std::move(text), &slot, task, task == nullptr ? 0 : task->ended_attempts() + 1U);
}

// A worker that was stopped (SIGSTOP, SIGTSTP, a terminal) runs nothing until somebody continues it, and its
// futures would never end.
void PoolCore::check_stopped(WorkerSlot& slot, SteadyTime now) {
  if (slot.in_flight.empty() || slot.kill_reason != WorkerSlot::KillReason::none)
    return slot.untidy.stopped_since.reset();
  if (now < slot.untidy.look_whether_stopped) return;
  slot.untidy.look_whether_stopped = now + between_looks_for_stops;
  const std::uint32_t pid = slot.worker.process.pid();
  const std::string who = "worker " + std::to_string(slot.index) + " (pid " + std::to_string(pid) + ")";
  if (!is_stopped(pid)) {
    if (slot.untidy.stopped_since) note(Level::info, who + " goes on: it was continued", &slot);
    return slot.untidy.stopped_since.reset();
  }
  const auto& limit = options_.stopped_limit;
  if (!slot.untidy.stopped_since) {
    slot.untidy.stopped_since = now;
    const TaskState& task = *slot.in_flight.front().task;
    note(Level::warn,
         who + " was stopped by a signal (SIGSTOP, or the like) with '" + task_name(task) + "' #" +
             std::to_string(task.id) + " at hand" +
             (limit ? "; unless it is continued, it is killed after stopped_limit, " +
                          std::to_string(std::chrono::duration<double>(*limit).count()) + " s"
                    : std::string{}),
         &slot, &task, task.ended_attempts() + 1U);
  } else if (limit && now - *slot.untidy.stopped_since >= *limit) {
    kill(slot, WorkerSlot::KillReason::stopped);
  }
}

void PoolCore::kill_slot_with(WorkerSlot& slot, int signal) noexcept {
  if (slot.state == WorkerSlot::State::alive || slot.state == WorkerSlot::State::leaving)
    slot.worker.process.signal_group(signal);
}

void PoolCore::kill(WorkerSlot& slot, WorkerSlot::KillReason reason) noexcept {
  if (slot.kill_reason == WorkerSlot::KillReason::none || reason == WorkerSlot::KillReason::protocol)
    slot.kill_reason = reason;
  slot.worker.process.signal_group(SIGKILL);
}

void PoolCore::ask_to_leave(WorkerSlot& slot) {
  if (slot.state != WorkerSlot::State::alive) return;
  slot.state = WorkerSlot::State::leaving;
  slot.end.leave_by = steady_clock::now() + options_.shutdown_grace;
  KINDRED_INJECTION_POINT("parent.recycle.before_command");
  // Order: release, pairs with the acquire in WorkerProcess: it sees the calls that were published before,
  // and runs them first.
  slot.header().command.store(static_cast<std::uint32_t>(Command::finish), std::memory_order_release);
  wake_worker(slot);
}

void PoolCore::add_timer(SteadyTime at, TaskState& task) {
  const bool first = timers_.empty() || at < timers_.top().at;
  timers_.push({at, TaskPin{task}});
  if (first) {
    kick();
  }
}

Deadline PoolCore::next_deadline_of(const WorkerSlot& slot) const {
  Deadline next;
  const auto consider = [&](SteadyTime at) {
    if (!next || at < *next) next = at;
  };
  if (options_.idle_timeout && slot.idle() && slot.ready) consider(slot.idle_since + *options_.idle_timeout);
  if (slot.state == WorkerSlot::State::dying) consider(slot.end.told_by);
  if (slot.kill_reason != WorkerSlot::KillReason::none) return next;
  if (slot.state == WorkerSlot::State::leaving && slot.in_flight.empty()) consider(slot.end.leave_by);
  if (slot.mute_since && slot.watched) consider(*slot.mute_since + mute_limit);
  if (options_.initializer_timeout && slot.state == WorkerSlot::State::alive && !slot.ready)
    consider(slot.started + *options_.initializer_timeout);
  return next;
}

Deadline PoolCore::next_deadline() {
  Deadline next = rebalance_at_;
  // While there is something to do, the supervisor looks whether a worker was stopped. One more such look
  // comes after the last task, and then none.
  if (in_flight_ != 0 || totals_.submitted != submitted_at_last_look_) {
    const auto at = steady_clock::now() + between_looks_for_stops;
    if (!next || at < *next) next = at;
    submitted_at_last_look_ = totals_.submitted;
  }
  if (in_flight_ != 0 && leader_ == nullptr) {  // else the leader looks, should a ring be lost
    const auto at = look_again_.next();
    if (!next || at < *next) next = at;
  }
  const auto consider = [&](SteadyTime at) {
    if (!next || at < *next) next = at;
  };
  if (release_blocks_at_) consider(*release_blocks_at_);
  if (launching_.tidy_at) consider(*launching_.tidy_at);
  if (tail_again_) consider(*tail_again_);
  while (!timers_.empty() && timers_.top().pin.task().finished()) timers_.pop();
  if (!timers_.empty()) consider(timers_.top().at);
  if (launching_.start) {
    consider(launching_.start->asked.answer_by);
  } else if (launching_.preparing_since) {
    if (options_.preload_timeout) consider(*launching_.preparing_since + *options_.preload_timeout);
  } else if (wanted_ != 0) {
    consider(starts_.next_start());
  }
  for (const auto& slot : slots_) {
    if (const auto at = next_deadline_of(*slot)) consider(*at);
  }
  return next;
}

void PoolCore::check_timers() {
  const auto now = steady_clock::now();
  while (!timers_.empty() && timers_.top().at <= now) {
    const TaskPin pin{timers_.top().pin.task()};
    TaskState& task = pin.task();
    timers_.pop();
    if (task.finished() || !task.options) continue;
    if (task.options->queue_timeout && check_queue_timeout(task)) continue;
    if (task.is_dispatched() && (task.options->timeout || task.options->soft_timeout))
      check_attempt(task, now);
  }
}

bool PoolCore::check_queue_timeout(TaskState& task) {
  const auto limit = *task.options->queue_timeout;
  if (duration_of(ticks() - task.submitted_ticks) < limit) return false;
  if (task.is_pending()) {
    waiting_.remove(task);
  } else if (task.is_dispatched()) {
    WorkerSlot& slot = task.worker();
    const std::size_t position = slot.position_of(task);
    if (position == slot.in_flight.size() || !take_back(slot, position, false)) return false;
  } else {
    return false;
  }
  ++totals_.lost;
  finish_with(task, Outcome::failure, [&] {
    return std::make_unique<StoredFailure<TaskTimeout>>(
        TaskTimeout{facts(task, nullptr), limit, std::chrono::nanoseconds{0}});
  });
  return true;
}

void PoolCore::check_attempt(TaskState& task, SteadyTime now) {
  WorkerSlot& slot = task.worker();
  const std::size_t position = slot.position_of(task);
  if (position == slot.in_flight.size()) return;
  InFlight& entry = slot.in_flight[position];
  const SegmentHeader& header = slot.header();
  AttemptTimes times;
  times.timeout = task.options->timeout;
  times.soft_timeout = task.options->soft_timeout;
  times.terminate_grace = options_.terminate_grace;
  times.stop_asked = entry.stop_asked;
  times.timed_out = entry.condemned == InFlight::Condemned::timed_out;
  // The clock begins with the task. The ticks are the worker's word; a worker that lies about them only
  // escapes its own limit for as long again, since a begin in the future counts as now.
  times.begun = entry.header->state.load(std::memory_order_acquire) != call_state::queued &&
                header.begun_attempt.load(std::memory_order_relaxed) == task.attempt();
  if (times.begun)
    times.ran = duration_of(ticks() - std::min(header.begun_ticks.load(std::memory_order_relaxed), ticks()));
  if (times.timeout && position == 0 && slot.ready) {
    if (entry.front_since == SteadyTime{}) entry.front_since = now;
    times.at_front = now - entry.front_since;
  }
  const LimitStep step = check_limits(times);
  if (step.ask_to_stop) ask_to_stop(slot, entry);
  switch (step.kill) {
    case LimitStep::Kill::none: break;
    case LimitStep::Kill::kill_for_sure:
      entry.ran = step.ran;
      entry.condemned = InFlight::Condemned::timed_out;
      return kill(slot, WorkerSlot::KillReason::task);
    case LimitStep::Kill::terminate:
    case LimitStep::Kill::kill: {
      const bool gently = step.kill == LimitStep::Kill::terminate;
      entry.ran = step.ran;
      if (!condemn_task(slot, entry, InFlight::Condemned::timed_out, gently ? SIGTERM : SIGKILL))
        break;  // it says that it is done
      if (gently) add_timer(now + *options_.terminate_grace, task);
      return;
    }
  }
  if (step.look_again) add_timer(now + *step.look_again, task);
}

void PoolCore::want_workers_now() {
  if (broken_ || ended_) return;
  const std::size_t work = waiting_.size() + in_flight_;
  std::size_t live = live_workers() + wanted_;
  const std::size_t least = options_.start_all && !closed_ ? max_workers() : 0;
  while (live < max_workers() && (live < work || live < least)) {
    ++wanted_;
    ++live;
    kick();
  }
}

void PoolCore::break_pool(Lock&, std::exception_ptr cause, const std::string& text) {
  if (broken_) return;
  broken_text_ = text;
  broken_ = std::make_unique<StoredFailure<BrokenProcessPool>>(BrokenProcessPool{text, cause});
  note(Level::critical, BrokenProcessPool{text, cause}.what());
  const auto failure = [this, cause] {
    return std::make_unique<StoredFailure<BrokenProcessPool>>(BrokenProcessPool{broken_text_, cause});
  };
  for (const auto& slot : slots_) {
    if (slot->segment == nullptr || slot->state == WorkerSlot::State::dying) continue;
    for (std::size_t i = slot->in_flight.size(); i-- > 0;) (void)take_back(*slot, i, true);
    while (!slot->in_flight.empty()) {
      TaskState& task = *slot->in_flight.front().task;
      slot->in_flight.pop_front();
      --in_flight_;
      task.leave_worker();
      if (task.finished()) {
        task.unpin();
      } else {
        ++totals_.lost;
        finish_with(task, Outcome::failure, failure);
      }
    }
    kill(*slot, WorkerSlot::KillReason::shutdown);
  }
  fail_waiting(failure);
  wanted_ = 0;
  if (shared_objects_) shared_objects_->close();
  room_.notify_all();
  changed_.notify_all();
}

std::string PoolCore::name_of_reported_code(CodeReference reference) const {
  const void* const address = context_.code().address(reference);
  if (address == nullptr) return {};
  std::string name = function_name(address);
  EntryInfo info;
  if (!name.empty() || reinterpret_cast<std::uintptr_t>(address) % alignof(EntryInfo) != 0 ||
      !copy_constant(address, &info, sizeof info))
    return name;
  name.resize(std::min<std::size_t>(info.name.size(), 4096));
  if (!copy_constant(info.name.data(), name.data(), name.size())) name.clear();
  return name;
}

void PoolCore::note(Level level, std::string message, const WorkerSlot* slot, const TaskState* task,
                    std::uint32_t attempt, const std::string& backtrace) {
  if (level < collector_.level()) return;
  LogRecord record;
  record.level = level;
  record.origin = Origin::lifecycle;
  record.message = std::move(message);
  if (slot != nullptr) {
    record.worker = slot->index;
    record.incarnation = slot->incarnation;
    record.pid = slot->worker.process.pid();
  } else {
    record.pid = owner_pid_;
  }
  if (task != nullptr) {
    record.task_id = task->id;
    record.task_name = task_name(*task);
    record.attempt = attempt;
  }
  if (!backtrace.empty()) record.fields.push_back({"backtrace", backtrace});
  collector_.emit(std::move(record));
}

}  // namespace kindred::internal
