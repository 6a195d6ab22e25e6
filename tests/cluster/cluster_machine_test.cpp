#include "cluster/world.hpp"
#include "support/test.hpp"

// The state machines of head and node, on a virtual clock, over an engine that loses what the test says.
using namespace kindred;
using namespace kindred::test;

namespace {

/// Sends `count` tasks, runs them to their end, and checks what has to hold whatever was lost.
void check_all_end(World& world, const std::vector<std::uint64_t>& tasks, bool once) {
  REQUIRE(world.run_to_end());
  for (const auto task : tasks) {
    CHECK_MESSAGE(world.ends.contains(task), "task ", task, " has no end");
    if (once) CHECK_MESSAGE(world.times_begun(task) <= 1, "task ", task, " was begun more than once");
  }
}

}  // namespace

TEST_CASE("tasks are spread over the nodes, and each future gets its own value") {
  World world{3, 2};
  const auto tasks = world.submit_numbered(60);
  check_all_end(world, tasks, true);
  CHECK(world.without_value(tasks) == "");
  for (const auto& node : world.nodes) CHECK(node->pool.begun.size() >= 15);
}

TEST_CASE("whichever packet is lost, each task ends with its value and was begun once") {
  std::uint64_t packets = 0;
  {
    World world{2};
    for (int i = 0; i < 6; ++i) world.submit("x");
    REQUIRE(world.run_to_end());
    packets = world.bus.sent();
  }
  for (std::uint64_t lost = 0; lost < packets + 20; ++lost) {
    World world{2};
    world.bus.fate = [lost](std::uint64_t number) { return FakeBus::Fate{.lost = number == lost}; };
    const auto tasks = world.submit_numbered(6);
    check_all_end(world, tasks, true);
    CHECK_MESSAGE(world.without_value(tasks) == "", "lost packet ", lost);
  }
}

TEST_CASE("packets that come twice, late or in another order change nothing") {
  for (unsigned seed = 1; seed <= 30; ++seed) {
    World world{3, 2};
    std::mt19937 random{seed};
    world.bus.fate = [&random](std::uint64_t) {
      return FakeBus::Fate{.lost = random() % 10 == 0,
                           .copies = 1 + static_cast<unsigned>(random() % 3),
                           .late = std::chrono::microseconds{random() % 50'000}};
    };
    const auto tasks = world.submit_numbered(40);
    check_all_end(world, tasks, true);
    CHECK(world.without_value(tasks) == "");
  }
}

TEST_CASE(
    "a node that dies at any step: with retries every task has its value, without none is begun twice") {
  std::uint64_t packets = 0;
  {
    World world{2};
    for (int i = 0; i < 4; ++i) world.submit("x");
    REQUIRE(world.run_to_end());
    packets = world.bus.sent();
  }
  for (const int retries : {0, 1}) {
    for (std::uint64_t at = 0; at < packets + 5; ++at) {
      World world{2};
      world.bus.fate = [&world, at](std::uint64_t number) {
        if (number == at && !world.nodes.empty()) world.nodes[0]->stopped = true;
        return FakeBus::Fate{};
      };
      const auto tasks = world.submit_numbered(4, with_retries(retries));
      check_all_end(world, tasks, retries == 0);
      for (int i = 0; i < 4; ++i) {
        const auto& ended = world.ends.at(tasks[static_cast<std::size_t>(i)]);
        if (retries == 1) {
          CHECK(world.has_value(tasks[static_cast<std::size_t>(i)], std::to_string(i)));
        } else if (ended.how != Ended::How::result) {
          CHECK(ended.how == Ended::How::node_lost);
          CHECK(ended.node == "n1");
          CHECK_CONTAINS(ended.text, "nothing was heard of it");
        }
      }
    }
  }
}

TEST_CASE("a dead node's tasks are elsewhere within the lease and half a second") {
  World world{2};
  const auto task = world.submit("a", with_retries(1));
  const auto other = world.submit("b", with_retries(1));
  world.nodes[0]->pool.run_time = world.nodes[1]->pool.run_time = seconds{1};
  REQUIRE(world.run_until([&] { return world.times_begun(task) + world.times_begun(other) == 2; }));
  world.nodes[0]->stopped = true;
  const Time died = world.bus.now;
  REQUIRE(world.run_until([&] { return world.times_begun(task) + world.times_begun(other) == 3; }));
  CHECK(world.bus.now - died < seconds{10} + milliseconds{1500});  // the survivor's own task takes 1 s of it
  check_all_end(world, {task, other}, false);
}

TEST_CASE("a node that is cut off: its task moves, and what it brings when it is back is refused") {
  World world{2};
  for (auto& node : world.nodes) node->pool.run_time = seconds{20};
  const auto task = world.submit("a", with_retries(1));
  REQUIRE(world.run_until([&] { return world.times_begun(task) == 1; }));
  const std::size_t first = world.nodes[0]->pool.begun.empty() ? 1 : 0;
  world.bus.cut.insert(first == 0 ? "n1" : "n2");
  REQUIRE(world.run_until([&] { return world.times_begun(task) == 2; }));
  world.bus.cut.clear();
  world.run_for(seconds{2});
  CHECK_FALSE(world.nodes[first]->pool.closed.empty());  // its stale run was killed
  CHECK(world.nodes[first]->pool.runs.empty());
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(task, "a"));
  // And it works again.
  const auto next = world.submit("b");
  const auto after = world.submit("c");
  check_all_end(world, {next, after}, true);
  CHECK(world.nodes[first]->pool.begun.size() == 2);
}

TEST_CASE("a result that was on its way from a node declared lost is dropped") {
  World world{1};
  world.nodes[0]->pool.run_time = seconds{1};
  const auto task = world.submit("a");
  REQUIRE(world.run_until([&] { return world.times_begun(task) == 1; }));
  world.nodes[0]->stopped = true;  // as by SIGSTOP
  REQUIRE(world.run_to_end());
  CHECK(world.ends.at(task).how == Ended::How::node_lost);
  world.nodes[0]->stopped = false;
  world.run_for(seconds{5});
  CHECK(world.ends.size() == 1);
  const auto next = world.submit("b");
  check_all_end(world, {next}, true);
  CHECK(world.has_value(next, "b"));
}

TEST_CASE("a task that kills every node is lost with all their names after its retries") {
  World world{3};
  for (auto& node : world.nodes) node->pool.run_time = seconds{1000};
  const auto poison = world.submit("p", with_retries(2));
  for (int round = 0; round < 3; ++round) {
    REQUIRE(
        world.run_until([&] { return world.times_begun(poison) == static_cast<std::size_t>(round + 1); }));
    for (auto& node : world.nodes) {
      if (!node->pool.runs.empty()) node->stopped = true;
    }
  }
  REQUIRE(world.run_to_end());
  const Ended& ended = world.ends.at(poison);
  CHECK(ended.how == Ended::How::node_lost);
  CHECK(ended.attempts == 3);
  CHECK(ended.nodes.size() == 3);
}

TEST_CASE("a task far longer than the lease runs once") {
  World world{2};
  for (auto& node : world.nodes) node->pool.run_time = seconds{2100};
  const auto task = world.submit("long", with_retries(3));
  REQUIRE(world.run_to_end(seconds{3000}));
  CHECK(world.has_value(task, "long"));
  CHECK(world.times_begun(task) == 1);
}

TEST_CASE("an engine that is away for less than node_timeout costs no task, however often") {
  World world{2};
  const auto tasks = world.submit_numbered(200);
  for (auto& node : world.nodes) node->pool.run_time = milliseconds{500};
  for (int outage = 0; outage < 20; ++outage) {
    world.run_for(milliseconds{2500});
    world.bus.down = true;
    world.run_for(outage == 10 ? seconds{20} : seconds{3});
    world.bus.down = false;
  }
  check_all_end(world, tasks, true);
  for (const auto& [id, ended] : world.ends) CHECK_MESSAGE(ended.text.empty(), ended.text);
  CHECK(world.without_value(tasks) == "");
}

TEST_CASE("an engine that comes just before node_timeout has passed still gets its streams and nodes") {
  for (const bool detached : {false, true}) {
    CAPTURE(detached);
    HeadSettings settings;
    settings.detached = settings.manifest.detached = detached;
    World world{2, 1, settings};
    world.bus.down = true;
    const auto tasks = world.submit_numbered(5);
    world.run_for(milliseconds{29'900});
    world.bus.down = false;
    REQUIRE(world.run_to_end());
    for (std::size_t i = 0; i < tasks.size(); ++i)
      CHECK_MESSAGE(world.has_value(tasks[i], std::to_string(i)), world.ends.at(tasks[i]).text);
  }
}

TEST_CASE("an engine that is gone for good fails every future after node_timeout, with words") {
  World world{1};
  world.nodes[0]->pool.run_time = seconds{5};
  const auto held = world.submit("a");
  const auto waiting = world.submit("b");
  REQUIRE(world.run_until([&] { return world.times_begun(held) == 1; }));
  world.bus.down = true;
  const Time gone = world.bus.now;
  REQUIRE(world.run_to_end());
  CHECK(world.bus.now - gone < seconds{33});
  CHECK(world.ends.at(held).how == Ended::How::node_lost);
  CHECK(world.ends.at(waiting).how == Ended::How::refused);
  CHECK_CONTAINS(world.ends.at(waiting).text, "has carried nothing");
  const auto meanwhile = world.submit("d");
  world.run_for(seconds{10});
  CHECK(world.head->is_open(meanwhile));
  world.bus.down = false;
  const auto later = world.submit("c");
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(later, "c"));
  CHECK(world.has_value(meanwhile, "d"));
}

TEST_CASE("the head is gone: after its grace no task of the job runs") {
  World world{2};
  for (auto& node : world.nodes) node->pool.run_time = seconds{1000};
  world.submit("a");
  world.submit("b");
  REQUIRE(world.run_until(
      [&] { return !world.nodes[0]->pool.runs.empty() && !world.nodes[1]->pool.runs.empty(); }));
  world.bus.cut.insert("head");
  world.run_for(seconds{32});
  for (auto& node : world.nodes) {
    CHECK(node->pool.runs.empty());
    CHECK(node->node->jobs() == 0);
  }
}

TEST_CASE("no node of this build: the futures fail after node_timeout and name both builds") {
  World world;
  world.add_node(1, build_b);
  const auto task = world.submit("a");
  REQUIRE(world.run_to_end());
  CHECK(world.bus.now >= seconds{30});
  const Ended& ended = world.ends.at(task);
  CHECK(ended.how == Ended::How::refused);
  CHECK_CONTAINS(ended.text, build_a.substr(0, 16));
  CHECK_CONTAINS(ended.text, "n1 runs build " + build_b.substr(0, 16));
  CHECK(world.nodes[0]->pool.opened.empty());
}

TEST_CASE("with nodes of two builds only those of the head's own run its tasks") {
  World world{1};
  world.add_node(1, build_b);
  std::vector<std::uint64_t> tasks;
  for (int i = 0; i < 20; ++i) tasks.push_back(world.submit("x"));
  check_all_end(world, tasks, true);
  CHECK(world.nodes[0]->pool.begun.size() == 20);
  CHECK(world.nodes[1]->pool.begun.empty());
}

TEST_CASE("a job without a node says how to start one; a node that comes later runs what waits") {
  World world;
  const auto early = world.submit("a");
  REQUIRE(world.run_to_end());
  CHECK_CONTAINS(world.ends.at(early).text, "kindred-node --cluster test");
  const auto task = world.submit("b");
  world.run_for(seconds{5});
  world.add_node();
  check_all_end(world, {task}, true);
  CHECK(world.has_value(task, "b"));
}

TEST_CASE("min_nodes holds tasks back until that many nodes are there") {
  HeadSettings settings;
  settings.min_nodes = 2;
  World world{1, 1, settings};
  const auto task = world.submit("a");
  world.run_for(seconds{3});
  CHECK(world.times_begun(task) == 0);
  world.add_node();
  check_all_end(world, {task}, true);
}

TEST_CASE("a pending task is cancelled for certain; a held one by its node's word") {
  World world{1};
  world.nodes[0]->pool.run_time = seconds{1};
  const auto runs = world.submit("a");
  const auto waits = world.submit("b");
  REQUIRE(world.run_until([&] { return world.times_begun(runs) == 1; }));
  CHECK(world.head->cancel(world.bus.now, waits, Running::leave) == Head::CancelState::cancelled);
  CHECK(world.head->cancel(world.bus.now, runs, Running::leave) == Head::CancelState::asked);
  REQUIRE(world.run_until([&] { return world.head->cancel_answer(runs).has_value(); }));
  CHECK(world.head->cancel_answer(runs) == CancelAnswer::begun);
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(runs, "a"));
  CHECK(world.ends.at(waits).how == Ended::How::cancelled);
  CHECK(world.times_begun(waits) == 0);
  CHECK(world.head->cancel(world.bus.now, runs, Running::kill) == Head::CancelState::refused);
}

TEST_CASE("a held task that has not begun is cancelled by its node, and never runs") {
  World world{1};
  world.nodes[0]->pool.workers = 0;
  const auto task = world.submit("a");
  world.run_for(seconds{1});
  CHECK(world.head->cancel(world.bus.now, task, Running::leave) == Head::CancelState::asked);
  REQUIRE(world.run_to_end());
  CHECK(world.ends.at(task).how == Ended::How::cancelled);
  world.nodes[0]->pool.workers = 1;
  world.run_for(seconds{5});
  CHECK(world.times_begun(task) == 0);
}

TEST_CASE("a running task is killed; where its node does not answer within the lease it ends as cancelled") {
  World world{1};
  world.nodes[0]->pool.run_time = seconds{1000};
  const auto first = world.submit("a");
  REQUIRE(world.run_until([&] { return world.times_begun(first) == 1; }));
  (void)world.head->cancel(world.bus.now, first, Running::kill);
  REQUIRE(world.run_to_end(seconds{2}));
  CHECK(world.ends.at(first).result.kind == EndKind::cancelled);
  const auto second = world.submit("b", with_retries(5));
  REQUIRE(world.run_until([&] { return world.times_begun(second) == 1; }));
  world.nodes[0]->stopped = true;
  (void)world.head->cancel(world.bus.now, second, Running::kill);
  REQUIRE(world.run_to_end(seconds{12}));
  CHECK(world.ends.at(second).how == Ended::How::cancelled);
}

TEST_CASE("queue_timeout ends what waits, also what a node holds and has not begun, and nothing that runs") {
  World world{1};
  world.nodes[0]->pool.run_time = seconds{3};
  TaskSpec limited;
  limited.queue_timeout = seconds{1};
  const auto runs = world.submit("a", limited);
  const auto waits = world.submit("b", limited);
  check_all_end(world, {runs, waits}, true);
  CHECK(world.has_value(runs, "a"));
  CHECK(world.ends.at(waits).how == Ended::How::queue_timeout);
  world.nodes[0]->pool.workers = 0;
  const auto held = world.submit("c", limited);
  REQUIRE(world.run_to_end());
  CHECK(world.ends.at(held).how == Ended::How::queue_timeout);
  world.nodes[0]->pool.workers = 1;
  world.run_for(seconds{5});
  CHECK(world.times_begun(held) == 0);
}

TEST_CASE("higher priorities go first over all nodes") {
  World world{1};
  const auto first = world.submit("first");
  REQUIRE(world.run_until([&] { return world.times_begun(first) == 1; }));
  std::vector<std::uint64_t> low, high;
  for (int i = 0; i < 5; ++i) low.push_back(world.submit("low"));
  TaskSpec urgent;
  urgent.priority = 3;
  for (int i = 0; i < 5; ++i) high.push_back(world.submit("high", urgent));
  REQUIRE(world.run_to_end());
  auto expected = std::vector{first};
  expected.insert(expected.end(), high.begin(), high.end());
  expected.insert(expected.end(), low.begin(), low.end());
  CHECK(world.nodes[0]->pool.begun == expected);
}

TEST_CASE("what throws is run again only where retry_exceptions says so, and attempts are counted") {
  World world{1};
  unsigned left = 2;
  world.nodes[0]->pool.outcome = [&left](const Grant&) {
    return left != 0 ? (--left, EndKind::threw) : EndKind::value;
  };
  TaskSpec again = with_retries(3);
  again.retry_exceptions = true;
  const auto task = world.submit("a", again);
  REQUIRE(world.run_to_end());
  CHECK(world.has_value(task, "a"));
  CHECK(world.ends.at(task).attempts == 3);
  left = 1;
  const auto plain = world.submit("b", with_retries(3));
  REQUIRE(world.run_to_end());
  CHECK(world.ends.at(plain).result.kind == EndKind::threw);
}

TEST_CASE("a node that drains gives back what has not begun, ends the rest, and loses nothing") {
  World world{2, 1};
  for (auto& node : world.nodes) node->pool.run_time = seconds{2};
  const auto tasks = world.submit_numbered(6);
  REQUIRE(world.run_until([&] { return !world.nodes[0]->pool.begun.empty(); }));
  world.nodes[0]->node->drain();
  REQUIRE(world.run_until([&] { return world.nodes[0]->node->drained(); }));
  CHECK(world.nodes[0]->pool.begun.size() == 1);
  world.nodes[0]->node->leave();
  world.nodes[0]->stopped = true;
  check_all_end(world, tasks, true);
  CHECK(world.without_value(tasks) == "");
  CHECK(world.head->counts().nodes_lost == 0);
}

TEST_CASE("a node that ends in good order at any step costs no task") {
  std::uint64_t packets = 0;
  {
    World world{2};
    for (int i = 0; i < 6; ++i) world.submit("x");
    REQUIRE(world.run_to_end());
    packets = world.bus.sent();
  }
  for (std::uint64_t at = 0; at < packets + 5; ++at) {
    World world{2};
    bool ends = false;
    world.bus.fate = [&ends, at](std::uint64_t number) {
      ends = ends || number == at;
      return FakeBus::Fate{};
    };
    const auto tasks = world.submit_numbered(6);
    SimulatedNode& first = *world.nodes[0];
    REQUIRE(world.run_until([&] {
      if (ends) first.node->drain();
      if (ends && !first.stopped && first.node->drained()) {
        first.node->leave();
        first.stopped = true;
      }
      return world.head->open_tasks() == 0;
    }));
    CHECK_MESSAGE(world.without_value(tasks) == "", "it ended at ", at);
    for (const auto task : tasks) CHECK(world.times_begun(task) == 1);
  }
}

TEST_CASE("of two nodes of one name that did not hear each other at first the younger one is to leave") {
  World world{1};
  world.run_for(seconds{5});
  SimulatedNode younger{world.bus, "n1", 1, 77};
  world.run_for(seconds{1});  // both are in their beats; the younger one is not run by the world
  for (int i = 0; i < 30; ++i) {
    younger.step(world.bus.now);
    world.run_for(milliseconds{100});
  }
  CHECK(younger.node->older_of_this_name().has_value());
  CHECK_FALSE(world.nodes[0]->node->older_of_this_name().has_value());
}

TEST_CASE("a job that no node can run is broken with the cause; one broken node leaves it to the others") {
  World world{2};
  std::vector<std::uint64_t> tasks;
  for (auto& node : world.nodes) node->pool.run_time = seconds{1};
  for (int i = 0; i < 4; ++i) tasks.push_back(world.submit(std::to_string(i)));
  REQUIRE(world.run_until(
      [&] { return !world.nodes[0]->pool.opened.empty() && !world.nodes[1]->pool.opened.empty(); }));
  auto& broken = *world.nodes[0];
  broken.pool.runs.clear();
  broken.node->on_broken(broken.pool.opened[0], "the initializer threw: no model", false);
  check_all_end(world, tasks, false);
  CHECK(world.without_value(tasks) == "");
  auto& last = *world.nodes[1];
  const auto task = world.submit("x");
  REQUIRE(world.run_until([&] { return world.times_begun(task) == 1; }));
  last.pool.runs.clear();
  last.node->on_broken(last.pool.opened[0], "the initializer threw: no model", false);
  REQUIRE(world.run_to_end());
  CHECK(world.ends.at(task).broken);
  CHECK_CONTAINS(world.ends.at(task).text, "no model");
  const auto later = world.submit("y");
  world.step();
  CHECK(world.ends.at(later).broken);
}

TEST_CASE("long tasks are not fetched ahead, short ones are") {
  World world{1};
  world.nodes[0]->pool.run_time = seconds{1};
  for (int i = 0; i < 10; ++i) world.submit("x");
  world.run_for(milliseconds{4500});
  CHECK(world.head->counts().held == 1);
  REQUIRE(world.run_to_end());
  world.nodes[0]->pool.run_time = std::chrono::microseconds{50};
  for (int i = 0; i < 2000; ++i) world.submit("x");
  REQUIRE(world.run_until([&] { return world.head->counts().held > 50; }));
  REQUIRE(world.run_to_end());
}

TEST_CASE("values of many megabytes come through packets of one") {
  World world{2};
  const std::string large(20'000'000, 'x');
  const auto task = world.submit(large);
  const auto other = world.submit("small");
  check_all_end(world, {task, other}, true);
  CHECK(world.has_value(task, large));
}

TEST_CASE("large arguments are fetched within a limit, however many tasks a node may fetch ahead") {
  World world;
  HeldLimits limits;
  limits.prefetch = 50;
  limits.max_held_bytes = 3'000'000;
  world.add_node(1, build_a, limits);
  const std::string large(1'000'000, 'x');
  std::vector<std::uint64_t> tasks;
  for (int i = 0; i < 20; ++i) tasks.push_back(world.submit(large));
  std::size_t most = 0;
  REQUIRE(world.run_until(
      [&] {
        std::size_t bytes = 0;
        for (const auto& run : world.nodes[0]->pool.runs) bytes += run.grant.arguments.size();
        most = std::max(most, bytes);
        return world.head->open_tasks() == 0;
      },
      seconds{300}));
  CHECK(most <= limits.max_held_bytes);
  CHECK(most > large.size());
  for (const auto task : tasks) CHECK(world.has_value(task, large));
}

TEST_CASE("random bytes sent to head and node harm neither") {
  World world{2};
  std::mt19937 random{3};
  const auto tasks = world.submit_numbered(20, with_retries(20));
  const auto life = [&] {
    return world.nodes[0]->pool.opened.empty() ? 0 : world.nodes[0]->pool.opened.back();
  };
  for (int i = 0; i < 5000; ++i) {
    const std::vector<Message> messages = {
        Status{.life = life(),
               .node = "n1",
               .workers = 1,
               .held = {{random() % 30, random() % 30, HeldState::ready}}},
        Claim{.life = life(), .node = "n1", .tasks = {{random() % 30, random() % 30}}},
        Cancel{.job = 7, .life = life(), .task = random() % 30},
        Reset{.job = 7, .life = random()},
        Bye{.life = random()},
        Assignment{.job = 7, .life = life(), .serial = random() % 3, .tasks = {{.claim = random()}}},
        LogBatch{.life = random(), .node = "n1", .from = random(), .lost = random()}};
    Bytes bytes = encode(build_token(build_a), 1, messages[random() % messages.size()]);
    for (unsigned c = 0; c < 1 + random() % 3; ++c)
      bytes[12 + random() % (bytes.size() - 12)] = static_cast<std::byte>(random());
    if (random() % 2 == 0)
      world.head->on_event(world.bus.now, Told{bytes});
    else
      world.nodes[0]->node->on_event(world.bus.now, Told{bytes});
    if (i % 10 == 0) world.run_for(milliseconds{20});
  }
  REQUIRE(world.run_to_end(seconds{1000}));
  for (const auto task : tasks) CHECK(world.ends.contains(task));
}

TEST_CASE(
    "the store is wiped in mid-run, at any step: every task has its value, and without retries began once") {
  std::uint64_t packets = 0;
  {
    World world{2};
    for (int i = 0; i < 6; ++i) world.submit("x");
    REQUIRE(world.run_to_end());
    packets = world.bus.sent();
  }
  for (std::uint64_t at = 0; at < packets + 5; ++at) {
    World world{2};
    world.bus.fate = [&world, at](std::uint64_t number) {
      if (number == at) world.wipe_soon = true;
      return FakeBus::Fate{};
    };
    std::vector<std::uint64_t> tasks;
    for (int i = 0; i < 6; ++i) tasks.push_back(world.submit(std::to_string(i), with_retries(i % 2)));
    check_all_end(world, tasks, false);
    for (int i = 0; i < 6; ++i) {
      CHECK_MESSAGE(world.has_value(tasks[static_cast<std::size_t>(i)], std::to_string(i)), "wiped at ", at);
      if (i % 2 == 0) CHECK(world.times_begun(tasks[static_cast<std::size_t>(i)]) == 1);
    }
  }
}

TEST_CASE("acknowledgements from before a wipe remove nothing of what was published after it") {
  World world{1, 4};
  world.nodes[0]->pool.run_time = seconds{5};
  auto tasks = world.submit_numbered(4, with_retries(1));
  REQUIRE(world.run_until([&] { return world.nodes[0]->pool.begun.size() == 4; }));
  const Epoch before = world.head->counts().epoch;
  world.bus.wipe();
  REQUIRE(world.run_until([&] { return world.head->counts().epoch > before; }));
  // The new stream's first numbers are those of the old one's deliveries, which the node still holds.
  for (int i = 4; i < 8; ++i) tasks.push_back(world.submit(std::to_string(i)));
  check_all_end(world, tasks, true);
  CHECK(world.without_value(tasks) == "");
}

TEST_CASE("two heads whose store is wiped agree on one epoch, and both go on") {
  World world{2};
  OtherHead other{world.bus};
  world.others.push_back(&other);
  for (int i = 0; i < 20; ++i) {
    world.submit("x");
    TaskSpec spec;
    spec.arguments = bytes_of("y");
    other.head.submit(world.bus.now, std::move(spec));
    if (i == 10) world.bus.wipe();
    world.run_for(milliseconds{15});
  }
  REQUIRE(world.run_until([&] { return world.head->open_tasks() == 0 && other.head.open_tasks() == 0; }));
  CHECK(world.head->counts().epoch == other.head.counts().epoch);
  CHECK(world.head->counts().done == 20);
  CHECK(other.head.counts().done == 20);
}

TEST_CASE("a task that the queue has lost without a trace is published again") {
  World world{1};
  world.nodes[0]->pool.run_time = seconds{1};
  const auto first = world.submit("a");
  REQUIRE(world.run_until([&] { return world.times_begun(first) == 1; }));
  const auto lost = world.submit("b");
  world.run_for(milliseconds{100});
  FakeBus::Port port{world.bus, "thief"};
  port.purge(0, {{StreamKind::tasks, world.head->counts().epoch}, "0123456789abcdef.m"}, 0);
  check_all_end(world, {first, lost}, true);
  CHECK(world.has_value(lost, "b"));
}

TEST_CASE("what has ended leaves nothing in the queue") {
  World world{2};
  for (int i = 0; i < 20; ++i) world.submit("x", with_retries(i % 2));
  REQUIRE(world.run_to_end());
  world.run_for(seconds{1});
  CHECK(world.bus.stored(StreamKind::tasks) == 0);
  world.head->close(world.bus.now);
  world.run_for(seconds{1});
  for (const StreamKind kind : {StreamKind::results, StreamKind::log, StreamKind::blobs, StreamKind::jobs})
    CHECK(world.bus.stored(kind) == 0);
}

TEST_CASE("random losses, cuts, stops and outages: every task ends, and none without retries begins twice") {
  const unsigned rounds = long_run() ? 2000 : 8;
  for (unsigned seed = 1; seed <= rounds; ++seed) {
    std::mt19937 random{seed};
    World world{3, 2};
    const auto tasks = submit_in_trouble(world, random, 30, [&](unsigned dice) {
      if (dice == 2 && random() % 3 == 0) world.bus.wipe();
    });
    REQUIRE(world.run_to_end(seconds{2000}));
    for (const auto task : tasks.once) CHECK(world.times_begun(task) <= 1);
    CHECK(world.ends.size() == 60);
  }
}

TEST_CASE("the cost of a task stays the same with a thousand nodes and many open tasks") {
  World world{0, 1};
  const std::size_t nodes = long_run() ? 1000 : 100;
  for (std::size_t i = 0; i < nodes; ++i) world.add_node(8);
  const std::size_t count = long_run() ? 200'000 : 5'000;
  for (std::size_t i = 0; i < count; ++i) {
    TaskSpec spec;
    spec.arguments = bytes_of("x");
    (void)world.head->submit(world.bus.now, std::move(spec));
  }
  REQUIRE(world.run_to_end(seconds{2000}));
  CHECK(world.ends.size() == count);
}
