#include "cluster/world.hpp"
#include "support/test.hpp"

// Jobs that go on without their head: state machines on a virtual clock, over an engine that loses what the
// test says.
using namespace kindred;
using namespace kindred::test;

namespace {

HeadSettings detached_settings(std::uint64_t first_task = 100) {
  HeadSettings settings;
  settings.detached = settings.manifest.detached = true;
  settings.first_task = first_task;
  return settings;
}

std::string text(std::size_t number) { return std::to_string(number); }

}  // namespace

TEST_CASE("the head of a detached job goes, the nodes go on, and a later head has every result") {
  World world{2, 1, detached_settings(100)};
  std::vector<std::uint64_t> tasks;
  for (auto& node : world.nodes) node->pool.run_time = seconds{1};
  for (std::size_t i = 0; i < 10; ++i)
    tasks.push_back(world.submit(text(i), with_retries(static_cast<int>(i % 2))));
  REQUIRE(world.run_until([&] { return world.head->all_recorded(); }));
  CHECK(world.head->open_tasks() > 0);
  world.head->close(world.bus.now);
  world.new_head(detached_settings(200));
  world.run_for(seconds{60});
  for (const auto task : tasks) {
    CHECK(world.times_begun(task) == 1);
    world.head->adopt(world.bus.now, task);
  }
  REQUIRE(world.run_to_end());
  CHECK(world.without_value(tasks) == "");
  const auto known = world.head->known_tasks();
  CHECK(known.size() == 10);
  for (const auto task : tasks) CHECK(known.at(task) == Head::Known::ended);
  world.head->adopt(world.bus.now, 7);
  REQUIRE(world.run_to_end());
  CHECK_CONTAINS(world.ends.at(7).text, "the engine knows no task 7");
  CHECK(world.bus.stored(StreamKind::tasks) == 0);
}

TEST_CASE("whichever packet of a detached job is lost, each task has its value and was begun once") {
  std::uint64_t packets = 0;
  {
    World world{2, 1, detached_settings()};
    for (int i = 0; i < 4; ++i) world.submit("x");
    REQUIRE(world.run_to_end());
    packets = world.bus.sent();
  }
  for (std::uint64_t lost = 0; lost < packets + 20; ++lost) {
    World world{2, 1, detached_settings()};
    world.bus.fate = [lost](std::uint64_t number) { return FakeBus::Fate{.lost = number == lost}; };
    std::vector<std::uint64_t> tasks;
    for (std::size_t i = 0; i < 4; ++i)
      tasks.push_back(world.submit(text(i), with_retries(i % 2 == 0 ? 0 : 1)));
    REQUIRE(world.run_to_end());
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK_MESSAGE(world.has_value(tasks[i], text(i)), "lost packet ", lost);
      CHECK_MESSAGE(world.times_begun(tasks[i]) == 1, "lost packet ", lost);
    }
  }
}

TEST_CASE(
    "a node of a detached job dies at any step: without retries its task is lost with its name, with them it "
    "runs elsewhere") {
  for (std::uint64_t at = 0; at < 150; at += 3) {
    World world{2, 1, detached_settings()};
    world.bus.fate = [&world, at](std::uint64_t number) {
      if (number == at && !world.nodes.empty()) world.nodes[0]->stopped = true;
      return FakeBus::Fate{};
    };
    std::vector<std::uint64_t> tasks;
    for (std::size_t i = 0; i < 4; ++i)
      tasks.push_back(world.submit(text(i), with_retries(i % 2 == 0 ? 0 : 2)));
    REQUIRE(world.run_to_end(seconds{500}));
    for (std::size_t i = 0; i < 4; ++i) {
      if (i % 2 == 1) {
        CHECK_MESSAGE(world.has_value(tasks[i], text(i)), "stopped at ", at);
        continue;
      }
      CHECK(world.times_begun(tasks[i]) <= 1);
      const Ended& ended = world.ends.at(tasks[i]);
      if (ended.how == Ended::How::result) continue;
      CHECK(ended.how == Ended::How::node_lost);
      CHECK(ended.node == "n1");
    }
  }
}

TEST_CASE("a detached task that kills each node that begins it ends with the names of all of them") {
  World world{3, 1, detached_settings()};
  for (auto& node : world.nodes) node->pool.run_time = seconds{1000};
  const auto task = world.submit("poison", with_retries(2));
  for (std::size_t deaths = 1; deaths <= 3; ++deaths) {
    REQUIRE(world.run_until([&] { return world.times_begun(task) == deaths; }));
    for (auto& node : world.nodes)
      node->stopped = node->stopped || std::ranges::count(node->pool.begun, task) != 0;
  }
  world.add_node();
  REQUIRE(world.run_to_end());
  const Ended& ended = world.ends.at(task);
  CHECK(ended.how == Ended::How::node_lost);
  CHECK(std::set<std::string>(ended.nodes.begin(), ended.nodes.end()) ==
        std::set<std::string>{"n1", "n2", "n3"});
  CHECK(ended.attempts == 3);
  CHECK(world.times_begun(task) == 3);
}

TEST_CASE(
    "a node of a detached job that was cut off in mid-task: another has begun it, and its late result is dropped") {
  World world{2, 1, detached_settings()};
  for (auto& node : world.nodes) node->pool.run_time = seconds{30};
  const auto task = world.submit("a", with_retries(1));
  REQUIRE(world.run_until([&] { return world.times_begun(task) == 1; }));
  const std::size_t first = world.nodes[0]->pool.begun.empty() ? 1 : 0;
  world.bus.cut.insert(first == 0 ? "n1" : "n2");
  REQUIRE(world.run_until([&] { return world.times_begun(task) == 2; }));
  world.run_for(seconds{5});
  world.bus.cut.clear();
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(task, "a"));
  world.run_for(seconds{1});
  CHECK(world.bus.stored(StreamKind::tasks) == 0);
}

TEST_CASE("servers that are away for longer than the lease cost a detached job no node and no attempt") {
  World world{2, 1, detached_settings()};
  for (auto& node : world.nodes) node->pool.run_time = seconds{60};
  const auto once = world.submit("a");
  const auto again = world.submit("b", with_retries(1));
  REQUIRE(world.run_until([&] { return world.times_begun(once) + world.times_begun(again) == 2; }));
  world.bus.down = true;
  world.run_for(seconds{25});
  world.bus.down = false;
  REQUIRE(world.run_to_end(seconds{300}));
  CHECK(world.has_value(once, "a"));
  CHECK(world.has_value(again, "b"));
  CHECK(world.times_begun(once) + world.times_begun(again) == 2);
}

TEST_CASE("a node of a detached job that drains gives back what has not begun, and that costs no attempt") {
  World world{2, 1, detached_settings()};
  for (auto& node : world.nodes) node->pool.run_time = seconds{2};
  const auto tasks = world.submit_numbered(20);
  REQUIRE(world.run_until([&] { return world.nodes[0]->pool.begun.size() == 2; }));
  world.nodes[0]->node->drain();
  REQUIRE(world.run_until([&] { return world.nodes[0]->node->drained(); }));
  world.nodes[0]->node->leave();
  world.nodes[0]->stopped = true;
  REQUIRE(world.run_to_end());
  for (std::size_t i = 0; i < 20; ++i) {
    CHECK(world.has_value(tasks[i], text(i)));
    CHECK(world.times_begun(tasks[i]) == 1);
    CHECK(world.ends.at(tasks[i]).attempts == 1);
  }
}

TEST_CASE(
    "a pending task of a detached job is cancelled for certain, a running one is killed, and both stay cancelled") {
  World world{1, 1, detached_settings(100)};
  world.nodes[0]->pool.run_time = seconds{1000};
  const auto runs = world.submit("a");
  const auto waits = world.submit("b");
  REQUIRE(world.run_until([&] { return world.head->is_running(runs) && world.head->all_recorded(); }));
  CHECK(world.head->cancel(world.bus.now, waits, Running::leave) == Head::CancelState::asked);
  REQUIRE(world.run_until([&] { return world.ends.contains(waits); }));
  CHECK(world.ends.at(waits).how == Ended::How::cancelled);
  CHECK(world.head->cancel(world.bus.now, runs, Running::leave) == Head::CancelState::asked);
  REQUIRE(world.run_until([&] { return world.head->cancel_answer(runs).has_value(); }));
  CHECK(world.head->cancel_answer(runs) == CancelAnswer::begun);
  CHECK(world.head->cancel(world.bus.now, runs, Running::kill) == Head::CancelState::asked);
  REQUIRE(world.run_to_end());
  CHECK(world.ends.at(runs).result.kind == EndKind::cancelled);
  CHECK(world.times_begun(waits) == 0);
  world.ends.clear();
  world.head->close(world.bus.now);
  world.new_head(detached_settings(200));
  world.run_for(seconds{1});
  for (const auto task : {runs, waits}) world.head->adopt(world.bus.now, task);
  REQUIRE(world.run_to_end());
  for (const auto task : {runs, waits}) CHECK(world.ends.at(task).result.kind == EndKind::cancelled);
}

TEST_CASE(
    "a cancel of a detached task against a node that is about to begin it: one of the two, whatever is lost") {
  for (unsigned seed = 1; seed <= (long_run() ? 400U : 25U); ++seed) {
    std::mt19937 random{seed};
    World world{2, 1, detached_settings()};
    world.bus.fate = [&random](std::uint64_t) {
      return FakeBus::Fate{.lost = random() % 12 == 0, .late = std::chrono::microseconds{random() % 2000}};
    };
    const auto task = world.submit("a");
    world.run_for(std::chrono::microseconds{random() % 4000});
    if (world.head->is_open(task)) (void)world.head->cancel(world.bus.now, task, Running::leave);
    REQUIRE(world.run_to_end());
    const bool cancelled = world.ends.at(task).how == Ended::How::cancelled;
    CHECK_MESSAGE(world.times_begun(task) == (cancelled ? 0 : 1), "seed ", seed);
    world.run_for(seconds{30});
    CHECK(world.times_begun(task) <= 1);
  }
}

TEST_CASE("the time in the queue of a detached job is kept, and does not touch what runs") {
  World world{1, 1, detached_settings()};
  world.nodes[0]->pool.run_time = seconds{5};
  TaskSpec spec;
  spec.queue_timeout = seconds{2};
  const auto runs = world.submit("a", spec);
  REQUIRE(world.run_until([&] { return world.times_begun(runs) == 1; }));
  const auto waits = world.submit("b", spec);
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(runs, "a"));
  CHECK(world.ends.at(waits).how == Ended::How::queue_timeout);
  CHECK(world.times_begun(waits) == 0);
}

TEST_CASE("a dropped task of a detached job leaves no result, whether it waited, ran or had ended") {
  World world{1, 1, detached_settings(100)};
  const auto ended = world.submit("a");
  REQUIRE(world.run_to_end());
  world.nodes[0]->pool.run_time = seconds{1000};
  const auto runs = world.submit("b");
  const auto waits = world.submit("c");
  REQUIRE(world.run_until([&] { return world.head->is_running(runs) && world.head->all_recorded(); }));
  for (const auto task : {ended, runs, waits}) world.head->drop(world.bus.now, task);
  REQUIRE(world.run_to_end());
  world.run_for(seconds{1});
  CHECK(world.head->known_tasks().empty());
  CHECK(world.nodes[0]->pool.runs.empty());
  world.new_head(detached_settings(200));
  world.ends.clear();
  world.run_for(seconds{1});
  for (const auto task : {ended, runs, waits}) world.head->adopt(world.bus.now, task);
  REQUIRE(world.run_to_end());
  for (const auto task : {ended, runs, waits}) CHECK_CONTAINS(world.ends.at(task).text, "knows no task");
}

TEST_CASE("the store of a detached job is wiped: what may run again runs, what may not is said to be lost") {
  std::uint64_t packets = 0;
  {
    World world{2, 1, detached_settings()};
    for (int i = 0; i < 4; ++i) world.submit("x");
    REQUIRE(world.run_to_end());
    packets = world.bus.sent();
  }
  for (std::uint64_t at = 0; at < packets; at += 3) {
    World world{2, 1, detached_settings()};
    world.bus.fate = [&world, at](std::uint64_t number) {
      world.wipe_soon = world.wipe_soon || number == at;
      return FakeBus::Fate{};
    };
    std::vector<std::uint64_t> tasks;
    for (std::size_t i = 0; i < 4; ++i)
      tasks.push_back(world.submit(text(i), with_retries(i % 2 == 0 ? 0 : 3)));
    REQUIRE(world.run_to_end(seconds{300}));
    for (std::size_t i = 0; i < 4; ++i) {
      if (i % 2 == 1) {
        CHECK_MESSAGE(world.has_value(tasks[i], text(i)), "wiped at ", at);
        continue;
      }
      CHECK_MESSAGE(world.times_begun(tasks[i]) <= 1, "wiped at ", at);
      if (!world.has_value(tasks[i], text(i))) CHECK(world.ends.at(tasks[i]).how == Ended::How::node_lost);
    }
  }
}

TEST_CASE("values of many megabytes of a detached job come through packets of one, also to a later head") {
  World world{2, 1, detached_settings(100)};
  const std::string large(5'000'000, 'x');
  const auto task = world.submit(large);
  REQUIRE(world.run_until([&] { return world.head->all_recorded(); }));
  world.head->close(world.bus.now);
  world.new_head(detached_settings(200));
  world.head->adopt(world.bus.now, task);
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(task, large));
}

TEST_CASE(
    "random losses, cuts, stops, outages and heads that go: every detached task ends, without retries begun once") {
  Deadline deadline{std::chrono::seconds{long_run() ? 1200 : 60}};
  const unsigned rounds = long_run() ? 1000 : 3;
  for (unsigned seed = 1; seed <= rounds; ++seed) {
    std::mt19937 random{seed};
    World world{3, 2, detached_settings(1)};
    std::uint64_t heads = 1;
    const auto tasks = submit_in_trouble(world, random, 20, [&](unsigned dice) {
      if (dice != 5) return;
      // Another process goes on with the job.
      world.bus.down = false;
      REQUIRE(world.run_until([&] { return world.head->all_recorded(); }));
      world.head->close(world.bus.now);
      world.new_head(detached_settings(1000 * heads++));
    });
    for (const auto& kind : {tasks.once, tasks.again}) {
      for (const auto task : kind) {
        if (!world.ends.contains(task)) world.head->adopt(world.bus.now, task);
      }
    }
    REQUIRE(world.run_to_end(seconds{2000}));
    for (const auto task : tasks.once) {
      CHECK_MESSAGE(world.times_begun(task) <= 1, "seed ", seed);
      CHECK(world.ends.contains(task));
    }
    for (const auto task : tasks.again) CHECK_MESSAGE(world.has_value(task, "again"), "seed ", seed);
  }
}
