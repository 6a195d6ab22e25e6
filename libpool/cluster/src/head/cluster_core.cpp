#include "head/cluster_core.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <random>

#include <fmt/format.h>

#include "engine/connect.hpp"
#include "executor_access.hpp"
#include "head/cluster_metrics.hpp"
#include "head/remote_failure.hpp"
#include "kindred/internal/collector.hpp"
#include "kindred/internal/pool_log.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/service_thread.hpp"
#include "kindred/internal/tail_request.hpp"
#include "kindred/internal/tail_visit.hpp"
#include "kindred/task_error.hpp"
#include "names.hpp"
#include "wire/sha256.hpp"

namespace kindred::internal {
namespace {

using namespace cluster;
using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr auto cancel_patience = 1s;       ///< for a node's answer to a cancel
constexpr auto farewell_patience = 500ms;  ///< for nodes to hear that the job has ended
constexpr auto longest_sleep = 50ms;

Time now() { return Steady::now().time_since_epoch(); }
std::int64_t wall_ns() { return std::chrono::system_clock::now().time_since_epoch().count(); }

std::uint64_t random_number() {
  std::random_device device;
  return (std::uint64_t{device()} << 32U) | device();
}

void require_fits(const Manifest& manifest, const Engine& engine) {
  const std::size_t bytes = manifest.initializer.arguments.size() + manifest.finalizer.arguments.size();
  const std::size_t most = engine.max_message() * 3 / 4;
  if (bytes <= most) return;
  throw UsageError{fmt::format(
      "the arguments of initializer and finalizer take {} bytes, and the server takes messages of {}. Let the "
      "initializer read what is large from a file that every node has.",
      bytes, engine.max_message())};
}

/// Returns a number for the job. A detached job has the same number in each process of this build.
std::uint64_t job_number(const ClusterOptions& options, const std::string& build) {
  if (!options.detached) return random_number();
  const std::string text = build + "." + options.job;
  const std::string digest = sha256(std::as_bytes(std::span{text}));
  std::uint64_t number = 0;
  std::memcpy(&number, digest.data(), sizeof number);
  return number;
}

/// Returns the first task number. In a detached job no number may come twice, whichever process gives it.
std::uint64_t first_task(const ClusterOptions& options) {
  return options.detached ? (random_number() >> 33U << 32U) + 1 : 1;
}

ExecutorOptions options_of_pool(const ClusterOptions& options) {
  ExecutorOptions made;
  made.start_method = StartMethod::forkserver;  // which starts nothing before a first task, and there is none
  made.max_workers = 1;
  made.log = options.log;
  return made;
}

}  // namespace

ClusterCore::ClusterCore(Entry& entry, ClusterOptions options)
    : options_{(options.validate(), std::move(options))},
      code_{std::make_shared<CodeBook>()},
      job_{job_number(options_, code_->module(0).build_id)},
      pool_{entry, options_of_pool(options_)} {
  HeadSettings made = settings();
  static_cast<void>(build_token(made.build));  // throws before anything is connected
  engine_ = connect_engine(
      options_.engine(), options_.name, fmt::format("kindred head, pid {}", process_id()),
      options_.node_timeout, [this](EngineEvent event) { receive(std::move(event)); },
      [this](const std::string& what) { pool_.logger().warn("{}", what); });
  require_fits(made.manifest, *engine_);
  head_ = std::make_unique<Head>(std::move(made), *engine_);
  head_->set_clock(wall_ns() - now().count());
  if (options_.insecure)
    pool_.logger().warn(
        "cluster {}: insecure is set, so any program that reaches its servers can run code on its nodes",
        options_.name);
  open_to_tails();
  thread_ = std::thread{[this] { run(); }};
  try {
    await_streams();
  } catch (...) {
    stop();
    throw;
  }
}

// A pool opens its log's door with its first worker, and this one has none. Its guests come to our thread.
void ClusterCore::open_to_tails() {
  Collector& log = log_of(*ExecutorAccess::core(pool_));
  gate_->core = this;
  log.offer_at_tail("metrics", [gate = gate_](const TailRequest&, TailVisit& visit) {
    std::string text;
    {
      const Lock lock{gate->mutex};
      if (gate->core == nullptr) return;
      ClusterCore& core = *gate->core;
      const ContextId context = id_of(*ExecutorAccess::core(core.pool_));
      text = metrics_text(core.stats(), core.options_.name,
                          fmt::format("{}/{}", context.owner_pid(), context.serial()));
    }
    text += tail_answer::done;
    text += '\n';
    static_cast<void>(visit.send(text));
  });
  offers_tail_ = log.offer_tail() >= 0;
}

// A server without JetStream, or that refuses us a stream, is told here and not by the first future.
void ClusterCore::await_streams() {
  Lock lock{mutex_};
  const auto until = Steady::now() + options_.node_timeout;
  if (changed_.wait_until(lock, until, [this] { return head_->ready(); })) return;
  const std::string words = head_->engine_words();
  const std::string last = engine_->connection().last_words;
  throw SystemError{
      "JetStream", EPROTO,
      fmt::format("making the streams of cluster {} (the server's words: {}{}{})", options_.name,
                  words.empty() ? "none" : words, last.empty() ? "" : "; ", last),
      "Start nats-server with JetStream (-js, or jetstream {} in its configuration), and allow this "
      "user to publish to $JS.API.>."};
}

ClusterCore::~ClusterCore() { stop(); }

HeadSettings ClusterCore::settings() {
  const Module program = code_->module(0);
  HeadSettings made;
  made.cluster = options_.name;
  made.job = job_;
  made.build = program.build_id;
  made.program = file_name(program.path);
  made.min_nodes = static_cast<std::size_t>(std::max<std::int64_t>(1, options_.min_nodes.value()));
  made.node_timeout = options_.node_timeout;
  made.lease = options_.lease;
  made.head_grace = options_.head_grace;
  Manifest& manifest = made.manifest;
  manifest.name = options_.name;
  manifest.job = options_.job;
  manifest.initializer = prepare(options_.initializer);
  manifest.finalizer = prepare(options_.finalizer);
  manifest.initializer_timeout_ns = options_.initializer_timeout.value_or(0ns).count();
  manifest.max_tasks_per_worker = options_.max_tasks_per_worker.value();
  manifest.max_rss_per_worker = options_.max_rss_per_worker.value();
  manifest.restart_count = options_.restart_limit.count.value();
  manifest.restart_period_ns = options_.restart_limit.period.count();
  manifest.level = static_cast<std::uint8_t>(pool_.logger().level());
  made.detached = manifest.detached = options_.detached;
  made.first_task = first_task(options_);
  manifest.lease_ns = options_.lease.count();
  manifest.inline_limit = options_.inline_limit;
  made.inline_limit = options_.inline_limit;
  made.keep_results = options_.keep_results.value_or(std::chrono::hours{options_.detached ? 7 * 24 : 1});
  made.replicas = static_cast<unsigned>(options_.replicas.value());
  made.in_memory = options_.durability == Durability::memory;
  return made;
}

CallCode ClusterCore::code_of(const EntryInfo& entry, const void* function) {
  CallCode code;
  code.entry = code_->reference(&entry);
  code.function = function == nullptr ? 0 : code_->reference(function);
  for (const CodeReference reference : {code.entry, code.function}) {
    const std::size_t index = reference >> code_module_shift;
    if (index <= 1) continue;  // none, or the program itself
    const Module module = code_->module(index - 1);
    if (module.build_id.empty())
      throw UsageError{"the task's code is in " + module.path +
                       ", which has no build id, so no node can tell whether it has the same. Link it with "
                       "-Wl,--build-id=sha1."};
    code.modules.push_back({static_cast<std::uint16_t>(index), module.path, module.build_id});
  }
  return code;
}

PreparedCall ClusterCore::prepare(const Call& call) {
  PreparedCall prepared;
  if (!call) return prepared;
  ClusterSubmission encoded{*this};
  call.model()->encode(encoded.encoder());
  const auto bytes = encoded.encoder().written();
  prepared.code = code_of(*call.model()->entry(), call.model()->function());
  prepared.arguments.assign(bytes.begin(), bytes.end());
  return prepared;
}

// --- tasks

void ClusterCore::require_open() {
  const Lock lock{mutex_};
  if (closed_) throw UsageError{"cluster " + options_.name + " is shut down, and takes no task any more."};
  if (head_ && !head_->broken().empty()) throw BrokenProcessPool{head_->broken()};
}

bool ClusterCore::has_room(std::size_t bytes) const {
  const auto most = options_.max_pending.value();
  if (most > 0 && head_->open_tasks() >= static_cast<std::size_t>(most)) return false;
  return head_->open_tasks() == 0 || head_->ledger_bytes() + bytes <= options_.max_ledger_bytes;
}

bool ClusterCore::submit(const EntryInfo& entry, const void* function, const TaskOptions* options,
                         std::vector<std::byte> arguments, const StateHandle& state, RemoteTask& task,
                         bool try_only) {
  TaskSpec spec;
  if (options != nullptr) {
    spec.name = options->name;
    spec.priority = options->priority;
    spec.retries = options->retries;
    spec.retry_exceptions = options->retry_exceptions;
    spec.timeout = options->timeout.value_or(0ns);
    spec.soft_timeout = options->soft_timeout.value_or(0ns);
    spec.queue_timeout = options->queue_timeout.value_or(0ns);
  }
  spec.code = code_of(entry, function);
  spec.arguments = std::move(arguments);
  Lock lock{mutex_};
  while (!closed_ && !has_room(spec.arguments.size())) {
    if (try_only) return false;
    changed_.wait(lock);
  }
  if (closed_) throw UsageError{"cluster " + options_.name + " is shut down, and takes no task any more."};
  const bool idle = head_->open_tasks() == 0;
  task.id_ = head_->submit(now(), std::move(spec));
  futures_.emplace(task.id_, OpenFuture{state, &task});
  if (idle) head_->tick(now());  // a first task goes out here and now; a burst goes together
  lock.unlock();
  if (!idle) wake();
  return true;
}

bool ClusterCore::running(std::uint64_t task) {
  const Lock lock{mutex_};
  return head_->is_running(task);
}

void ClusterCore::cancel_pending(std::uint64_t task) {
  Lock lock{mutex_};
  (void)head_->cancel(now(), task, Running::leave);
  lock.unlock();
  wake();
}

bool ClusterCore::cancel(std::uint64_t task, Running how) {
  Lock lock{mutex_};
  const auto state = head_->cancel(now(), task, how);
  head_->tick(now());
  if (state == Head::CancelState::refused) return false;
  if (state == Head::CancelState::asked) {
    // A killed task ends when its node says so, or at the lease's end; else the node's word is enough.
    const auto until = Steady::now() + (how == Running::kill ? options_.lease + 1s : Time{cancel_patience});
    changed_.wait_until(lock, until, [&] {
      return !futures_.contains(task) || (how != Running::kill && head_->cancel_answer(task).has_value());
    });
    return false;  // the future itself says whether it was cancelled
  }
  deliver(lock, false);
  return true;
}

// --- the thread

void ClusterCore::receive(EngineEvent event) {
  {
    const std::scoped_lock lock{inbox_mutex_};
    inbox_.push_back(std::move(event));
    if (std::exchange(woken_, true)) return;
  }
  inbox_bell_.notify_one();
}

void ClusterCore::wake() {
  {
    const std::scoped_lock lock{inbox_mutex_};
    if (std::exchange(woken_, true)) return;
  }
  inbox_bell_.notify_one();
}

void ClusterCore::run() {
  begin_service_thread("kindred-head");
  std::vector<EngineEvent> events;
  Pulse pulse{*engine_, now};
  Time due = now();
  while (!stopping_.load()) {
    {
      Lock lock{inbox_mutex_};
      const auto sleep = std::min<Time>(std::max<Time>(due - now(), 0ns), longest_sleep);
      if (!woken_) inbox_bell_.wait_for(lock, sleep, [this] { return woken_; });
      woken_ = false;
      events.swap(inbox_);
    }
    if (offers_tail_ && !log_of(*ExecutorAccess::core(pool_)).answer_tail()) {
      offers_tail_ = false;
      log_of(*ExecutorAccess::core(pool_)).withdraw_tail();
    }
    Lock lock{mutex_};
    const Time at = now();
    head_->set_clock(wall_ns() - at.count());
    head_->set_level_if_changed(static_cast<std::uint8_t>(pool_.logger().level()));
    for (const EngineEvent& event : events) head_->on_event(at, event);
    events.clear();
    head_->tick(at);
    due = head_->next_due(at);
    pulse.live(at, head_->beat_every(), [this] { return head_->signs_of_life(); });
    deliver(lock, true);
  }
}

void ClusterCore::deliver(Lock& lock, bool own_thread) {
  std::vector<Ended> ended = head_->take_ended();
  std::vector<LogRecord> records;
  const auto move_to = [&records](std::vector<LogRecord> more) {
    for (LogRecord& record : more) records.push_back(std::move(record));
  };
  for (NodeRecords& batch : head_->take_records()) {
    lost_records_ += batch.batch.lost;
    merger_.add(std::move(batch));
  }
  // Order: what a dead worker logged is in the sinks before its future fails.
  for (const Ended& each : ended) {
    if (each.how == Ended::How::node_lost ||
        (each.how == Ended::How::result && each.result.kind != EndKind::value))
      move_to(merger_.take_of(each.node));
  }
  if (!merger_.empty()) move_to(merger_.take(wall_ns()));
  std::vector<NodeNews> news = head_->take_news();
  std::vector<OpenFuture> futures;
  std::vector<std::size_t> ends;  // the index in `ended` of each future's
  for (std::size_t i = 0; i < ended.size(); ++i) {
    const auto [first, last] = futures_.equal_range(ended[i].task);
    for (auto found = first; found != last; ++found) {
      futures.push_back(std::move(found->second));
      ends.push_back(i);
    }
    futures_.erase(first, last);
  }
  undelivered_ += ended.size();
  // The records go out while the lock is held: two threads could exchange their order otherwise.
  if (!records.empty()) pool_.logger().deliver(std::move(records));
  lock.unlock();
  tell_news(news);
  const bool failed = std::ranges::any_of(ended, [](const Ended& each) {
    return each.how != Ended::How::result || each.result.kind == EndKind::lost;
  });
  if (failed && own_thread) (void)pool_.logger().flush(100ms);
  for (std::size_t i = 0; i < futures.size(); ++i) finish(ended[ends[i]], futures[i]);
  futures.clear();
  if (ended.empty() && news.empty()) {
    changed_.notify_all();
    return;
  }
  lock.lock();
  undelivered_ -= ended.size();
  lock.unlock();
  changed_.notify_all();
}

void ClusterCore::finish(Ended& ended, const OpenFuture& future) {
  if (ended.how == Ended::How::result && ended.result.kind == EndKind::value) {
    future.task->take_value(ended.result.bytes, std::chrono::nanoseconds{ended.result.ran_ns});
    return;
  }
  if (ended.name.empty()) ended.name = "task";
  try {
    future.task->state().fail(make_failure(ended), is_cancelled(ended));
  } catch (...) {
    future.task->state().fail(std::current_exception());
  }
}

void ClusterCore::tell_news(const std::vector<NodeNews>& news) {
  if (news.empty()) return;
  std::function<void(const NodeEvent&)> callback;
  {
    const Lock lock{mutex_};
    callback = on_node_;
  }
  for (const NodeNews& each : news) {
    NodeEvent event{.kind = NodeEvent::Kind::joined, .node = each.node, .text = each.text};
    switch (each.what) {
      case NodeNews::What::joined: pool_.logger().info("node {} joined: {}", each.node, each.text); break;
      case NodeNews::What::left:
        event.kind = NodeEvent::Kind::left;
        pool_.logger().info("node {} left: {}", each.node, each.text);
        break;
      case NodeNews::What::broken:
        event.kind = NodeEvent::Kind::broken;
        pool_.logger().error("node {} cannot run this job: {}", each.node, each.text);
        break;
      default:
        event.kind = NodeEvent::Kind::lost;
        pool_.logger().warn("node {} is lost: {}", each.node, each.text);
    }
    if (!callback) continue;
    try {
      callback(event);
    } catch (const std::exception& error) {
      pool_.logger().error("the callback of on_node threw: {}", error.what());
    }
  }
}

// --- the end

void ClusterCore::shutdown(ShutdownOptions options) {
  Lock lock{mutex_};
  closed_ = true;
  if (options.cancel_pending) {
    head_->cancel_pending(now());
    deliver(lock, false);
    lock.lock();
  }
  changed_.notify_all();
  if (options_.detached && !options.wait) leave(lock);
  if (options.wait && std::this_thread::get_id() != thread_.get_id())
    changed_.wait(lock, [this] { return futures_.empty() && undelivered_ == 0; });
}

// A detached job goes on by itself when all of it is in the queue. What is still awaited here is not told any
// more.
void ClusterCore::leave(Lock& lock) {
  const auto until = Steady::now() + options_.node_timeout;
  bool recorded = false;
  while (!recorded && Steady::now() < until)
    recorded = changed_.wait_for(lock, 20ms, [this] { return head_->all_recorded(); });
  if (!recorded) {
    throw SystemError{
        "JetStream", EHOSTUNREACH,
        fmt::format("handing the tasks of job {} to the servers of cluster {}", options_.job, options_.name),
        "This process still has those that no server has confirmed: shut down again when a server "
        "can be reached."};
  }
  std::vector<OpenFuture> futures;
  for (auto& [id, future] : futures_) futures.push_back(std::move(future));
  futures_.clear();
  lock.unlock();
  for (const OpenFuture& future : futures) {
    future.task->state().fail(std::make_exception_ptr(UsageError{fmt::format(
        "task {} of job {} goes on without this process, which was told not to wait. Ask for it by its number: "
        "ClusterExecutor::result.",
        future.task->id_, options_.job)}));
  }
  lock.lock();
}

void ClusterCore::adopt(std::uint64_t id, const StateHandle& state, RemoteTask& task) {
  if (!options_.detached)
    throw UsageError{"result() is for detached jobs, and this one is not: keep the future that submit gave."};
  {
    const Lock lock{mutex_};
    if (closed_) throw UsageError{"cluster " + options_.name + " is shut down."};
    task.id_ = id;
    futures_.emplace(id, OpenFuture{state, &task});
    head_->adopt(now(), id);
  }
  wake();
}

std::vector<ClusterTaskInfo> ClusterCore::tasks() {
  std::vector<ClusterTaskInfo> list;
  const Lock lock{mutex_};
  for (const auto& [id, known] : head_->known_tasks()) {
    using State = ClusterTaskInfo::State;
    list.push_back({.id = id,
                    .state = known == Head::Known::ended     ? State::ended
                             : known == Head::Known::running ? State::running
                                                             : State::pending});
  }
  return list;
}

void ClusterCore::drop(std::uint64_t id) {
  {
    const Lock lock{mutex_};
    head_->drop(now(), id);
  }
  wake();
}

void ClusterCore::stop() {
  {
    const Lock lock{gate_->mutex};
    gate_->core = nullptr;
  }
  if (!thread_.joinable()) return;
  stopping_ = true;
  wake();
  thread_.join();
  Lock lock{mutex_};
  pool_.logger().deliver(merger_.take_all());
  head_->close(now());
  // The thread is gone, so what still comes is read here.
  const auto until = Steady::now() + farewell_patience;
  while (!head_->all_gone() && Steady::now() < until) {
    std::vector<EngineEvent> events;
    {
      Lock inbox{inbox_mutex_};
      inbox_bell_.wait_for(inbox, 10ms, [this] { return !inbox_.empty(); });
      events.swap(inbox_);
      woken_ = false;
    }
    for (const EngineEvent& event : events) head_->on_event(now(), event);
    head_->tick(now());
  }
  lock.unlock();
  engine_.reset();
}

// --- what is known

std::vector<NodeInfo> ClusterCore::nodes() {
  const Lock lock{mutex_};
  std::vector<NodeInfo> list;
  for (NodeView& view : head_->nodes(now())) {
    list.push_back({.name = std::move(view.name),
                    .program = std::move(view.program),
                    .builds = {std::move(view.build)},
                    .pid = view.pid,
                    .slots = view.workers,
                    .held = view.held,
                    .running = view.running,
                    .rtt = view.rtt,
                    .clock_offset = view.clock_offset,
                    .last_heard = view.heard,
                    .member = view.member,
                    .leaving = view.leaving});
  }
  return list;
}

ClusterStats ClusterCore::stats() {
  ClusterStats stats;
  stats.per_node = nodes();
  const Lock lock{mutex_};
  const HeadCounts counts = head_->counts();
  stats.submitted = counts.submitted;
  stats.done = counts.done;
  stats.failed = counts.failed;
  stats.lost = counts.lost;
  stats.cancelled = counts.cancelled;
  stats.retried = counts.retried;
  stats.pending = counts.pending;
  stats.held = counts.held;
  stats.published = counts.published;
  stats.confirmed = counts.confirmed;
  stats.republished = counts.republished + counts.repeated;
  stats.redelivered = counts.redelivered;
  stats.returned = counts.returned;
  stats.duplicates_dropped = counts.duplicates;
  stats.epoch = counts.epoch;
  stats.epochs = counts.epochs;
  stats.nodes_lost = counts.nodes_lost;
  stats.pauses = counts.outages;
  stats.longest_pause = counts.longest_outage;
  stats.ledger_bytes = counts.ledger_bytes;
  stats.log_lost = lost_records_;
  return stats;
}

std::size_t ClusterCore::workers() {
  const Lock lock{mutex_};
  return head_->total_workers();
}

void ClusterCore::on_node(std::function<void(const NodeEvent&)> callback) {
  const Lock lock{mutex_};
  on_node_ = std::move(callback);
}

}  // namespace kindred::internal
