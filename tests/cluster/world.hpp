#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/fake/fake_engine.hpp"
#include "head/head.hpp"
#include "node/node.hpp"
#include "support/test.hpp"

// A cluster in one process on a virtual clock: heads and nodes as in use, and an engine that loses what the
// test wants it to lose.
namespace kindred::test {

using namespace kindred::internal::cluster;
using kindred::internal::DecodeError;
using std::chrono::milliseconds;
using std::chrono::seconds;

#ifdef KINDRED_HEAD_ASSIGNS
inline constexpr bool head_assigns = true;
#else
inline constexpr bool head_assigns = false;  ///< every task goes through the queue
#endif

inline const std::string build_a = "0123456789abcdef0123456789abcdef01234567";
inline const std::string build_b = "fedcba9876543210fedcba9876543210fedcba98";

inline Bytes bytes_of(std::string_view text) {
  const auto* const begin = reinterpret_cast<const std::byte*>(text.data());
  return Bytes(begin, begin + text.size());
}
inline std::string text_of(const Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// A pool that only waits: task `arguments` returns its arguments after `run_time`.
class SimulatedPool final : public NodeHost {
 public:
  struct Run {
    std::uint64_t life;
    Grant grant;
    bool begun = false;
    Time ends{0};
  };

  Time* now = nullptr;
  unsigned workers = 1;
  Time run_time = milliseconds{10};
  std::vector<Run> runs;
  std::vector<std::uint64_t> begun;  ///< tasks, in order, of all lives
  std::vector<std::pair<std::uint64_t, Result>> ended;
  std::vector<std::uint64_t> closed;  ///< lives
  std::vector<std::uint64_t> opened;  ///< lives
  std::function<EndKind(const Grant&)> outcome;

  void open(std::uint64_t life, const Manifest&) override { opened.push_back(life); }
  void start(std::uint64_t life, const Grant& grant) override { runs.push_back({life, grant}); }
  CancelAnswer cancel(std::uint64_t life, std::uint64_t task, Running how) override {
    const auto run = std::ranges::find_if(
        runs, [&](const Run& each) { return each.life == life && each.grant.task == task; });
    if (run == runs.end()) return CancelAnswer::unknown;
    if (!run->begun) {
      runs.erase(run);
      return CancelAnswer::dropped;
    }
    if (how == Running::kill) {
      Result result;
      result.task = task;
      result.kind = EndKind::cancelled;
      ended.emplace_back(life, std::move(result));
      runs.erase(run);
    }
    return CancelAnswer::begun;
  }
  void set_level(std::uint64_t, std::uint8_t) override {}
  void close(std::uint64_t life) override {
    closed.push_back(life);
    std::erase_if(runs, [&](const Run& each) { return each.life == life; });
  }

  void advance() {
    for (auto run = runs.begin(); run != runs.end();) {
      if (run->begun && run->ends <= *now) {
        Result result;
        result.task = run->grant.task;
        result.attempt = run->grant.attempt;
        result.bytes = run->grant.arguments;
        result.ran_ns = run_time.count();
        result.kind = outcome ? outcome(run->grant) : EndKind::value;
        ended.emplace_back(run->life, std::move(result));
        run = runs.erase(run);
      } else {
        ++run;
      }
    }
    std::size_t busy = 0;
    for (Run& run : runs) busy += run.begun ? 1U : 0U;
    for (Run& run : runs) {
      if (run.begun || busy >= workers) continue;
      run.begun = true;
      run.ends = *now + run_time;
      begun.push_back(run.grant.task);
      ++busy;
    }
  }
  [[nodiscard]] Time next() const {
    Time next = Time::max();
    std::size_t busy = 0;
    for (const Run& run : runs) {
      busy += run.begun ? 1U : 0U;
      if (run.begun) next = std::min(next, run.ends);
    }
    return busy < std::min<std::size_t>(workers, runs.size()) ? *now : next;
  }
};

/// How much a simulated node fetches ahead.
struct HeldLimits {
  std::optional<std::uint32_t> prefetch = {};
  std::size_t max_held_bytes = 256U << 20U;
};

class SimulatedNode {
 public:
  SimulatedNode(FakeBus& bus, const std::string& name, unsigned workers, std::uint64_t seed,
                const std::string& build = build_a, const HeldLimits& limits = {})
      : port_{bus, name}, random_{seed} {
    pool.now = &bus.now;
    pool.workers = workers;
    NodeSettings settings;
    settings.name = name;
    settings.build = build;
    settings.program = "program";
    settings.workers = workers;
    settings.instance = seed;
    settings.prefetch = limits.prefetch;
    settings.max_held_bytes = limits.max_held_bytes;
    settings.random = [this] { return random_(); };
    node = std::make_unique<Node>(settings, port_, pool);
    port_.receive = [this, &bus](const EngineEvent& event) {
      if (busy) inbox_.push_back(event);
      if (!stopped && !busy) node->on_event(bus.now, event);
    };
  }
  void step(Time now) {
    if (stopped || busy) return;
    for (const EngineEvent& event : std::exchange(inbox_, {})) node->on_event(now, event);
    pool.advance();
    for (auto& [life, result] : std::exchange(pool.ended, {})) node->on_ended(now, life, std::move(result));
    node->tick(now);
  }
  [[nodiscard]] Time next(Time now) const {
    return stopped || busy ? Time::max() : std::min(pool.next(), node->next_due(now));
  }

  SimulatedPool pool;
  bool stopped = false;  ///< as by SIGSTOP, or killed
  bool busy = false;     ///< its thread is in a long step: what comes is handled after it
  std::unique_ptr<Node> node;

 private:
  FakeBus::Port port_;
  std::vector<EngineEvent> inbox_;
  std::mt19937_64 random_;
};

/// The settings of a head of the program that the nodes serve; what is not set yet is filled in.
inline HeadSettings as_here(HeadSettings settings, std::uint64_t job = 7) {
  if (settings.build.empty()) settings.build = build_a;
  settings.cluster = "test";
  settings.program = "program";
  if (settings.job == 0) settings.job = job;
  settings.assigns = head_assigns;
  return settings;
}

inline TaskSpec with_retries(int retries) {
  TaskSpec spec;
  spec.retries = retries;
  return spec;
}

/// Another job in the same cluster.
struct OtherHead {
  explicit OtherHead(FakeBus& bus, const HeadSettings& settings = {})
      : port{bus, "other"}, head{as_here(settings, 8), port} {
    port.receive = [this, &bus](const EngineEvent& event) { head.on_event(bus.now, event); };
  }
  FakeBus::Port port;
  Head head;
};

/// A head and nodes.
class World {
 public:
  explicit World(std::size_t node_count = 0, unsigned workers = 1, HeadSettings settings = {}) {
    head = std::make_unique<Head>(as_here(std::move(settings)), port_);
    connect_head();
    for (std::size_t i = 0; i < node_count; ++i) add_node(workers);
  }
  /// The node that began the task first.
  [[nodiscard]] SimulatedNode& node_of(std::uint64_t task) {
    for (const auto& node : nodes) {
      if (std::ranges::count(node->pool.begun, task) != 0) return *node;
    }
    FAIL("no node began it");
    return *nodes[0];
  }
  /// The present head is gone, and another process begins the job anew.
  void new_head(HeadSettings settings) {
    port_.receive = nullptr;
    head = std::make_unique<Head>(as_here(std::move(settings)), port_);
    connect_head();
  }
  SimulatedNode& add_node(unsigned workers = 1, const std::string& build = build_a,
                          const HeldLimits& limits = {}) {
    const auto number = std::to_string(++node_count_);
    nodes.push_back(
        std::make_unique<SimulatedNode>(bus, "n" + number, workers, node_count_ * 1000, build, limits));
    return *nodes.back();
  }
  std::uint64_t submit(std::string_view text, TaskSpec spec = {}) {
    spec.name = "task";
    spec.arguments = bytes_of(text);
    const auto id = head->submit(bus.now, std::move(spec));
    head->tick(bus.now);
    return id;
  }
  /// Submits `count` tasks, whose texts are "0", "1" and so on.
  std::vector<std::uint64_t> submit_numbered(std::size_t count, const TaskSpec& spec = {}) {
    std::vector<std::uint64_t> tasks;
    for (std::size_t i = 0; i < count; ++i) tasks.push_back(submit(std::to_string(i), spec));
    return tasks;
  }
  /// Returns the texts of those that have not their own text as their value; "": each has it.
  [[nodiscard]] std::string without_value(const std::vector<std::uint64_t>& numbered) const {
    std::string texts;
    for (std::size_t i = 0; i < numbered.size(); ++i) {
      const auto text = std::to_string(i);
      if (!has_value(numbered[i], text)) texts += text + " ";
    }
    return texts;
  }
  void step() {
    if (std::exchange(wipe_soon, false)) bus.wipe();
    bus.deliver();
    for (OtherHead* const other : others) other->head.tick(bus.now);
    for (const auto& node : nodes) node->step(bus.now);
    hear_late();
    if (!head_is_stopped) head->tick(bus.now);
    for (Ended& ended : head->take_ended()) {
      CHECK_MESSAGE(!ends.contains(ended.task), "task ", ended.task, " ended twice");
      ends.emplace(ended.task, std::move(ended));
    }
  }
  /// Lets time pass until the condition holds; false: not within `limit`.
  bool run_until(const std::function<bool()>& condition, Time limit = seconds{120}) {
    const Time until = bus.now + limit;
    for (;;) {
      step();
      if (condition()) return true;
      Time next = std::min(bus.next(), head_is_stopped ? Time::max() : head->next_due(bus.now));
      for (OtherHead* const other : others) next = std::min(next, other->head.next_due(bus.now));
      for (const auto& node : nodes) next = std::min(next, node->next(bus.now));
      bus.now = std::max(next, bus.now + std::chrono::microseconds{10});
      if (bus.now > until) return false;
    }
  }
  void run_for(Time time) {
    const Time until = bus.now + time;
    (void)run_until([&] { return bus.now >= until; }, time);
  }
  bool run_to_end(Time limit = seconds{120}) {
    return run_until([this] { return head->open_tasks() == 0; }, limit);
  }
  [[nodiscard]] std::size_t times_begun(std::uint64_t task) const {
    std::size_t times = 0;
    for (const auto& node : nodes)
      times += static_cast<std::size_t>(std::ranges::count(node->pool.begun, task));
    return times;
  }
  [[nodiscard]] bool has_value(std::uint64_t task, std::string_view text) const {
    const auto found = ends.find(task);
    return found != ends.end() && found->second.how == Ended::How::result &&
           found->second.result.kind == EndKind::value && text_of(found->second.result.bytes) == text;
  }

  FakeBus bus;

 private:
  void hear_late() {
    if (head_is_stopped || head_is_deaf) return;
    for (const EngineEvent& late : std::exchange(late_, {})) head->on_event(bus.now, late);
  }
  // A deaf head gets what it follows later.
  void connect_head() {
    port_.receive = [this](const EngineEvent& event) {
      if (head_is_stopped || (head_is_deaf && std::holds_alternative<StreamEntry>(event))) {
        late_.push_back(event);
        return;
      }
      hear_late();
      head->on_event(bus.now, event);
    };
  }

  FakeBus::Port port_{bus, "head"};
  std::vector<EngineEvent> late_;
  std::size_t node_count_ = 0;

 public:
  std::unique_ptr<Head> head;
  std::vector<std::unique_ptr<SimulatedNode>> nodes;
  std::map<std::uint64_t, Ended> ends;
  std::vector<OtherHead*> others;
  bool wipe_soon = false;     ///< the store goes with the next step
  bool head_is_deaf = false;  ///< what the head follows comes later
  bool head_is_stopped = false;
};

/// Tasks of a world in trouble.
struct TroubledTasks {
  std::vector<std::uint64_t> once;   ///< without retries: each may begin once
  std::vector<std::uint64_t> again;  ///< with retries
};

/// Submits `pairs` tasks of each kind to a world with three nodes, while packets are lost, come twice or come
/// late, links are cut, the server goes down and nodes stop. `more` gets a number from 0 to 7 each time, of
/// which 2 has the server go down or come back: the test's own trouble. No outage is as long as node_timeout,
/// after which all is refused. At the end all of it is over, but the packets' losses.
inline TroubledTasks submit_in_trouble(World& world, std::mt19937& random, int pairs,
                                       const std::function<void(unsigned dice)>& more) {
  TroubledTasks tasks;
  world.bus.fate = [&random](std::uint64_t) {
    return FakeBus::Fate{.lost = random() % 20 == 0,
                         .copies = 1 + static_cast<unsigned>(random() % 2),
                         .late = std::chrono::microseconds{random() % 5000}};
  };
  Time was_up = world.bus.now;
  for (int i = 0; i < pairs; ++i) {
    tasks.once.push_back(world.submit("once"));
    tasks.again.push_back(world.submit("again", with_retries(50)));
    for (auto& node : world.nodes) node->pool.run_time = milliseconds{random() % 3000};
    const auto dice = static_cast<unsigned>(random() % 8);
    switch (dice) {
      case 0: world.bus.cut.insert("n" + std::to_string(1 + random() % 3)); break;
      case 1: world.bus.cut.clear(); break;
      case 2: world.bus.down = random() % 4 == 0; break;
      case 3: world.nodes[random() % 3]->stopped = true; break;
      case 4:
        for (auto& node : world.nodes) node->stopped = false;
        break;
      default: break;
    }
    more(dice);
    if (!world.bus.down || world.bus.now - was_up > seconds{20}) {
      world.bus.down = false;
      was_up = world.bus.now;
    }
    world.run_for(milliseconds{random() % 4000});
  }
  world.bus.cut.clear();
  world.bus.down = false;
  for (auto& node : world.nodes) node->stopped = false;
  return tasks;
}

}  // namespace kindred::test
