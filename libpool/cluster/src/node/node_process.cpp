#include "node/node_process.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "engine/connect.hpp"
#include "engine/pulse.hpp"
#include "kindred/error.hpp"
#include "kindred/internal/modules.hpp"
#include "kindred/internal/process.hpp"
#include "kindred/internal/this_process.hpp"
#include "names.hpp"
#include "node/local_pool.hpp"
#include "node/node.hpp"

namespace kindred::internal {
namespace {

using namespace cluster;
using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

constexpr auto begun_every = 50ms;  ///< how often it is looked which tasks have begun
constexpr auto log_every = 50ms;    ///< how long records are gathered
constexpr auto longest_sleep = 50ms;
constexpr auto name_patience = 300ms;  ///< for another node of this name to be heard

std::atomic<int> stop_signals{0};
void note_stop_signal(int) { ++stop_signals; }

Time now() { return Steady::now().time_since_epoch(); }
void say(const std::string& text) { std::fputs(("kindred-node: " + text + "\n").c_str(), stderr); }

struct EndedEvent {
  std::uint64_t life;
  Result result;
};
struct BrokenEvent {
  std::uint64_t life;
  std::string why;
  bool may_have_begun;
};
using Happening = std::variant<EngineEvent, EndedEvent, BrokenEvent>;

/// The node's state machine with a thread (this one), an engine and local pools.
class NodeProcess final : public NodeHost {
 public:
  NodeProcess(Entry& entry, NodeOptions options) : entry_{entry}, options_{std::move(options)} {
    const Module program = loaded_modules().front();
    NodeSettings settings;
    settings.name = options_.name;
    settings.build = program.build_id;
    settings.program = file_name(program.path);
    settings.pid = process_id();
    settings.workers = static_cast<std::uint32_t>(options_.max_workers.value() == 0
                                                      ? usable_cpus()
                                                      : static_cast<unsigned>(options_.max_workers.value()));
    settings.prefetch = options_.prefetch;
    settings.accept_jobs = options_.accept_jobs;
    std::random_device device;
    random_.seed((std::uint64_t{device()} << 32U) | device());
    settings.instance = random_();
    settings.random = [this] { return random_(); };
    workers_ = settings.workers;
    static_cast<void>(build_token(settings.build));
    engine_ = connect_engine(
        options_.engine, options_.cluster,
        fmt::format("kindred node {}, pid {}", options_.name, process_id()), 24h * 365,
        [this](EngineEvent event) { put(std::move(event)); }, say);
    refuse_second_of_name(settings);
    node_ = std::make_unique<Node>(std::move(settings), *engine_, *this);
    events_ = {
        .ended = [this](std::uint64_t life, Result result) { put(EndedEvent{life, std::move(result)}); },
        .broken = [this](std::uint64_t life, std::string why,
                         bool may_have_begun) { put(BrokenEvent{life, std::move(why), may_have_begun}); },
        .logged = [this](std::uint64_t) { logged_ = true; }};
  }
  ~NodeProcess() override {
    for (auto& [life, pool] : pools_) bury(std::move(pool));
    for (std::thread& burial : burials_) burial.join();
    engine_.reset();
  }

  int run() {
    say(fmt::format("node {} of cluster {} is ready with {} workers", options_.name, options_.cluster,
                    workers_));
    Time due = now();
    std::optional<Time> draining_until;
    std::optional<Pulse> pulse{std::in_place, *engine_, now};
    for (;;) {
      std::vector<Happening> happenings = wait(due);
      const Time at = now();
      node_->set_clock(std::chrono::system_clock::now().time_since_epoch().count() - at.count());
      for (Happening& happening : happenings) apply(at, happening);
      look_at_pools(at);
      const int signals = stop_signals.load();
      if (signals != 0 && !draining_until) {
        say(fmt::format("node {} takes no more tasks; {} that it has may end", options_.name, node_->held()));
        node_->drain();
        draining_until = at + (options_.drain_on_term ? Time{options_.drain_grace} : Time{0});
      }
      node_->tick(at);
      if (draining_until && (node_->drained() || at >= *draining_until || signals > 1)) break;
      if (const auto older = node_->older_of_this_name()) {
        pulse.reset();
        node_->leave();
        refuse_name(*older);
      }
      due = node_->next_due(at);
      pulse->live(at, node_->beat_every(), [this, at] { return node_->signs_of_life(at); });
    }
    pulse.reset();
    node_->leave();
    std::this_thread::sleep_for(20ms);  // the client library writes what it has
    say(fmt::format("node {} has left", options_.name));
    return 0;
  }

 private:
  // A node that has this name already answers our beat with its own.
  void refuse_second_of_name(const NodeSettings& settings) {
    engine_->listen({Address::Kind::nodes});
    NodeBeat question;
    question.node = settings.name;
    question.build = settings.build;
    question.program = settings.program;
    question.instance = settings.instance;
    question.draining = true;
    engine_->tell({Address::Kind::nodes}, encode(build_token(settings.build), 0, Message{question}));
    const auto until = Steady::now() + name_patience;
    while (Steady::now() < until) {
      for (const Happening& happening : wait(now() + 50ms)) {
        const auto* const event = std::get_if<EngineEvent>(&happening);
        const auto* const told = event == nullptr ? nullptr : std::get_if<Told>(event);
        if (told == nullptr) continue;
        try {
          const auto envelope = decode(build_token(settings.build), told->bytes);
          const auto* const beat = envelope ? std::get_if<NodeBeat>(&envelope->message) : nullptr;
          if (beat != nullptr && beat->node == settings.name && beat->instance != settings.instance)
            refuse_name(beat->pid);
        } catch (const DecodeError&) {}
      }
      if (stop_signals.load() != 0) return;
    }
  }

  [[noreturn]] void refuse_name(std::uint32_t pid) const {
    throw UsageError{
        fmt::format("cluster {} has a node named {} already (pid {}). Give this one another name: "
                    "kindred-node --name NAME.",
                    options_.cluster, options_.name, pid)};
  }

  template <class T>
  void put(T event) {
    {
      const std::scoped_lock lock{mutex_};
      inbox_.emplace_back(std::move(event));
    }
    bell_.notify_one();
  }

  std::vector<Happening> wait(Time due) {
    std::unique_lock lock{mutex_};
    const auto sleep = std::min<Time>(std::max<Time>(due - now(), 0ns), longest_sleep);
    if (inbox_.empty()) bell_.wait_for(lock, sleep, [this] { return !inbox_.empty(); });
    return std::exchange(inbox_, {});
  }

  void apply(Time at, Happening& event) {
    if (const auto* const engine = std::get_if<EngineEvent>(&event)) {
      node_->on_event(at, *engine);
    } else if (auto* const ended = std::get_if<EndedEvent>(&event)) {
      // Order: what the task logged goes first, so that the head has it when the future ends.
      if (ended->result.kind != EndKind::value) send_records(ended->life);
      node_->on_ended(at, ended->life, std::move(ended->result));
    } else if (auto* const broken = std::get_if<BrokenEvent>(&event)) {
      send_records(broken->life);
      say(broken->why);
      node_->on_broken(broken->life, broken->why, broken->may_have_begun);
    }
  }

  void look_at_pools(Time at) {
    if (at >= look_again_) {
      look_again_ = at + begun_every;
      for (const auto& [life, pool] : pools_) node_->on_begun(life, pool->newly_begun());
    }
    if (at >= log_again_ && logged_.exchange(false)) {
      log_again_ = at + log_every;
      for (const auto& [life, pool] : pools_) send_records(life);
    }
    std::erase_if(burials_, [](std::thread& burial) { return !burial.joinable(); });
  }

  void send_records(std::uint64_t life) {
    const auto pool = pools_.find(life);
    if (pool == pools_.end()) return;
    LogBatch all = pool->second->take_records();
    constexpr std::size_t max_in_batch = 256;
    for (std::size_t at = 0; at < all.records.size() || all.lost != 0; at += max_in_batch) {
      LogBatch batch;
      batch.lost = std::exchange(all.lost, 0);
      const std::size_t end = std::min(all.records.size(), at + max_in_batch);
      for (std::size_t i = at; i < end; ++i) batch.records.push_back(std::move(all.records[i]));
      node_->on_log(life, std::move(batch));
    }
  }

  // --- what the state machine asks for
  void open(std::uint64_t life, const Manifest& manifest) override {
    try {
      pools_.emplace(life, std::make_unique<LocalPool>(entry_, options_, workers_, life, manifest, events_));
    } catch (const std::exception& error) {
      put(BrokenEvent{life, error.what(), false});
    }
  }
  void start(std::uint64_t life, const Grant& grant) override {
    if (const auto pool = pools_.find(life); pool != pools_.end()) pool->second->start(grant);
  }
  CancelAnswer cancel(std::uint64_t life, std::uint64_t task, Running how) override {
    const auto pool = pools_.find(life);
    return pool == pools_.end() ? CancelAnswer::unknown : pool->second->cancel(task, how);
  }
  void set_level(std::uint64_t life, std::uint8_t level) override {
    if (const auto pool = pools_.find(life);
        pool != pools_.end() && level <= static_cast<std::uint8_t>(Level::off))
      pool->second->set_level(level);
  }
  void close(std::uint64_t life) override {
    const auto pool = pools_.find(life);
    if (pool == pools_.end()) return;
    bury(std::move(pool->second));
    pools_.erase(pool);
  }

  // Its workers are killed, and waited for elsewhere: this thread keeps the beats.
  void bury(std::unique_ptr<LocalPool> pool) {
    burials_.emplace_back([dead = std::move(pool)]() mutable { dead.reset(); });
  }

  Entry& entry_;
  NodeOptions options_;
  std::uint32_t workers_ = 1;
  std::mt19937_64 random_;
  std::mutex mutex_;
  std::condition_variable bell_;
  std::vector<Happening> inbox_;
  std::atomic<bool> logged_{false};
  std::unique_ptr<Engine> engine_;
  LocalPoolEvents events_;
  std::map<std::uint64_t, std::unique_ptr<LocalPool>> pools_;
  std::vector<std::thread> burials_;
  std::unique_ptr<Node> node_;
  Time look_again_{0};
  Time log_again_{0};
};

}  // namespace

int serve_as_node(Entry& entry, NodeOptions options) {
  if (options.name.empty())
    throw UsageError{"the node has no name, and the host has none either: use --name."};
  options.validate();
  std::signal(SIGTERM, &note_stop_signal);
  std::signal(SIGINT, &note_stop_signal);
  NodeProcess process{entry, std::move(options)};
  return process.run();
}

}  // namespace kindred::internal
