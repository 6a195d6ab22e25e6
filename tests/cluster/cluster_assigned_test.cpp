// A head that gives its tasks straight to the nodes: what is special about that, and then the same cases as
// for the way through the queue.
#define KINDRED_HEAD_ASSIGNS
#include "cluster/cluster_machine_test.cpp"
#include "head/doubts.hpp"

TEST_CASE("tasks that a head assigns never enter the queue, and nothing of them stays on the servers") {
  World world{3, 2};
  const auto tasks = world.submit_numbered(100);
  check_all_end(world, tasks, true);
  CHECK(world.without_value(tasks) == "");
  CHECK(world.head->counts().published == 0);
}

TEST_CASE("an assigned task is there and back in two ways: the task's and the result's") {
  World world{1};
  const auto first = world.submit("a");
  check_all_end(world, {first}, true);
  world.run_for(seconds{3});
  world.nodes[0]->pool.run_time = Time{0};
  const Time begun = world.bus.now;
  const auto next = world.submit("b");
  check_all_end(world, {next}, true);
  CHECK(world.bus.now - begun < 2 * world.bus.delay + milliseconds{1});
}

TEST_CASE("an assignment that is lost or comes after the next one is sent again, and begins once") {
  for (const bool late : {false, true}) {
    World world{1, 4};
    const auto warm = world.submit("a");
    check_all_end(world, {warm}, true);
    world.nodes[0]->pool.run_time = milliseconds{1};
    std::uint64_t told = 0;
    std::vector<std::uint64_t> tasks;
    world.bus.fate = [&](std::uint64_t) {
      // The first packet from here on is the assignment.
      return told++ == 0
                 ? FakeBus::Fate{.lost = !late, .copies = 1, .late = late ? Time{seconds{4}} : Time{0}}
                 : FakeBus::Fate{};
    };
    for (int i = 0; i < 3; ++i) tasks.push_back(world.submit(std::to_string(i)));
    check_all_end(world, tasks, true);
    CHECK(world.without_value(tasks) == "");
    world.run_for(seconds{6});
    for (const auto task : tasks) CHECK(world.times_begun(task) == 1);
    CHECK(world.head->counts().published == 0);
  }
}

TEST_CASE("a job that comes beside one that keeps every node full gets its turn") {
  World world{2};
  for (int i = 0; i < 400; ++i) world.submit("x");
  REQUIRE(world.run_until([&] { return world.head->counts().done > 20; }));
  OtherHead other{world.bus};
  world.others.push_back(&other);
  REQUIRE(world.run_until([&] { return other.head.ready(); }));
  for (int i = 0; i < 10; ++i) {
    TaskSpec spec;
    spec.arguments = bytes_of("y");
    (void)other.head.submit(world.bus.now, std::move(spec));
  }
  const auto done = world.head->counts().done;
  REQUIRE(world.run_until([&] { return other.head.counts().done > 0; }));
  // The first of them comes in the node's next turn, and does not wait for all of the other job's.
  CHECK(world.head->counts().done < done + 100);
  REQUIRE(world.run_until([&] { return other.head.open_tasks() == 0 && world.head->open_tasks() == 0; }));
  CHECK(other.head.counts().done == 10);
  CHECK(world.head->counts().done == 400);
  CHECK(world.head->counts().published > 0);  // from then on by the queue
  // The other job has ended: tasks are assigned again.
  other.head.close(world.bus.now);
  world.run_for(seconds{3});
  const auto published = world.head->counts().published;
  const auto last = world.submit("z");
  check_all_end(world, {last}, true);
  CHECK(world.head->counts().published == published);
}

TEST_CASE("an assignment that a node cannot take comes back and is run elsewhere") {
  World world{2};
  const auto first = world.submit("a");
  check_all_end(world, {first}, true);
  for (auto& node : world.nodes) node->pool.run_time = milliseconds{100};
  // The nodes are told to end, and the head does not know that yet.
  world.nodes[0]->node->drain();
  const auto tasks = world.submit_numbered(4);
  check_all_end(world, tasks, true);
  CHECK(world.head->counts().returned > 0);
  for (const auto task : tasks)
    CHECK(world.nodes[1]->pool.begun.end() != std::ranges::find(world.nodes[1]->pool.begun, task));
}

TEST_CASE("what is in doubt is asked for some at a time, each until it is answered") {
  Doubts doubts;
  for (std::uint64_t task = 1; task <= 3000; ++task) doubts.add(task);
  std::map<Ticket, std::uint64_t> asked;
  Ticket last = 0;
  const auto ask = [&](std::uint64_t task) {
    asked[++last] = task;
    return last;
  };
  doubts.tick(seconds{10}, ask);
  CHECK(asked.size() == Doubts::max_asked);
  doubts.tick(seconds{10}, ask);
  CHECK(asked.size() == Doubts::max_asked);
  // Half of them are answered, and as many more are asked for.
  std::set<std::uint64_t> answered;
  for (Ticket ticket = 1; ticket <= Doubts::max_asked / 2; ++ticket) {
    REQUIRE(doubts.of(ticket) == asked[ticket]);
    answered.insert(asked[ticket]);
    doubts.remove(asked[ticket]);
  }
  doubts.tick(seconds{10}, ask);
  CHECK(asked.size() == Doubts::max_asked + Doubts::max_asked / 2);
  // No answer comes to the others: all are asked for again in turn, and none that was answered.
  for (Time now = seconds{11}; !doubts.empty(); now += seconds{1}) {
    REQUIRE(now < seconds{40});
    asked.clear();
    doubts.tick(now, ask);
    for (const auto& [ticket, task] : asked) {
      CHECK(answered.insert(task).second);
      doubts.remove(task);
    }
  }
  CHECK(answered.size() == 3000);
}
