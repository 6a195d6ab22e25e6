#include <atomic>
#include <thread>

#include "cluster/world.hpp"
#include "engine/pulse.hpp"
#include "support/test.hpp"

// A thread in a long step gives no signs of life itself: a pulse does so for it.
using namespace kindred;
using namespace kindred::test;

namespace {

/// Packets that a pulse has told, and how often it has looked at its clock.
struct Watched {
  FakeBus bus;
  FakeBus::Port port{bus, "node"};
  std::atomic<std::int64_t> time{0};
  std::atomic<int> looks{0};

  [[nodiscard]] Pulse::Clock clock() {
    return [this] {
      ++looks;
      return Time{time.load()};
    };
  }
  void wait_for_looks(int count) {
    const int until = looks + count;
    while (looks < until) std::this_thread::yield();
  }
};

SignsOfLife two_signs() {
  SignsOfLife signs;
  signs.packets.emplace_back(Address{Address::Kind::nodes}, bytes_of("beat"));
  signs.handles.emplace_back("1 build m 7");
  return signs;
}

}  // namespace

TEST_CASE("a pulse gives signs of life while its thread does not, and is silent while it does") {
  Watched watched;
  {
    Pulse pulse{watched.port, watched.clock()};
    pulse.live(Time{1000}, milliseconds{1}, two_signs);
    watched.time = 1000;  // the thread has just been there
    watched.wait_for_looks(3);
  }
  CHECK(watched.bus.sent() == 0);
  {
    Pulse pulse{watched.port, watched.clock()};
    pulse.live(Time{1000}, milliseconds{1}, two_signs);
    watched.time = seconds{5} / std::chrono::nanoseconds{1};
    watched.wait_for_looks(3);
  }
  CHECK(watched.bus.sent() >= 4);  // the packet and the lease, each twice at least
}

TEST_CASE("a pulse does not hide a thread that hangs") {
  Watched watched;
  {
    Pulse pulse{watched.port, watched.clock()};
    pulse.live(Time{0}, milliseconds{1}, two_signs);
    watched.time = (Pulse::most_silence + seconds{1}) / std::chrono::nanoseconds{1};
    watched.wait_for_looks(3);
  }
  CHECK(watched.bus.sent() == 0);
}

TEST_CASE("a node in a step that takes longer than its lease is not lost, nor is what it holds") {
  World world{1};
  FakeBus::Port pulse{world.bus, "n1"};
  world.nodes[0]->pool.run_time = seconds{2};
  const auto once = world.submit("a");
  const auto again = world.submit("b", [] {
    TaskSpec spec;
    spec.retries = 1;
    return spec;
  }());
  REQUIRE(world.run_until([&] { return world.times_begun(once) == 1; }));
  world.run_for(milliseconds{1100});
  const SignsOfLife signs = world.nodes[0]->node->signs_of_life(world.bus.now);
  world.nodes[0]->busy = true;
  for (int i = 0; i < 40; ++i) {
    for (const auto& [to, packet] : signs.packets) pulse.tell(to, packet);
    for (const std::string& handle : signs.handles) pulse.extend(handle);
    world.run_for(seconds{1});
  }
  CHECK(world.head->counts().nodes_lost == 0);
  CHECK(world.head->open_tasks() == 2);
  world.nodes[0]->busy = false;
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(once, "a"));
  CHECK(world.has_value(again, "b"));
  CHECK(world.times_begun(once) == 1);
  CHECK(world.times_begun(again) == 1);
}

TEST_CASE("a head in a step that takes longer than its grace: the nodes go on with its tasks") {
  World world{2};
  FakeBus::Port pulse{world.bus, "head"};
  for (auto& node : world.nodes) node->pool.run_time = seconds{60};
  std::vector<std::uint64_t> tasks;
  for (int i = 0; i < 2; ++i) tasks.push_back(world.submit("a"));
  REQUIRE(world.run_until([&] { return world.times_begun(tasks[0]) + world.times_begun(tasks[1]) == 2; }));
  const SignsOfLife signs = world.head->signs_of_life();
  world.head_is_stopped = true;
  for (int i = 0; i < 45; ++i) {
    for (const auto& [to, packet] : signs.packets) pulse.tell(to, packet);
    world.run_for(seconds{1});
  }
  for (auto& node : world.nodes) CHECK(node->pool.closed.empty());
  world.head_is_stopped = false;
  REQUIRE(world.run_to_end());
  for (const auto task : tasks) {
    CHECK(world.has_value(task, "a"));
    CHECK(world.times_begun(task) == 1);
  }
}
