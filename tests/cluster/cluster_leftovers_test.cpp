#include "cluster/world.hpp"
#include "support/test.hpp"

// What servers keep of tasks and epochs that are over, and what a change of the epoch must not lose.
using namespace kindred;
using namespace kindred::test;

namespace {

/// The head finds the stream of tasks gone and raises the epoch; what the other streams hold is whole.
void remove_task_stream(World& world) {
  FakeBus::Port port{world.bus, "thief"};
  port.remove(0, {StreamKind::tasks, world.head->counts().epoch});
  world.run_for(milliseconds{1});
}

}  // namespace

TEST_CASE("a killed server keeps settled messages: they are swept, though tasks are open all the time") {
  HeadSettings settings;
  settings.lease = seconds{1};
  World world{2, 2, settings};
  for (auto& node : world.nodes) node->pool.run_time = milliseconds{200};
  for (int i = 0; i < 120; ++i) world.submit("x", with_retries(i % 2));
  REQUIRE(world.run_until([&] { return world.ends.size() >= 70; }));
  world.bus.keeps_settled = true;  // as in the moments before its death
  REQUIRE(world.run_until([&] { return world.ends.size() >= 95; }));
  world.bus.keeps_settled = false;
  ++world.bus.outages;
  CHECK(world.bus.stored(StreamKind::tasks) >= 25);
  for (int i = 0; i < 100; ++i) {  // never is nothing open
    world.submit("y");
    world.run_for(milliseconds{30});
    REQUIRE(world.head->open_tasks() > 0);
  }
  REQUIRE(world.run_to_end());
  world.run_for(seconds{3});
  CHECK(world.bus.stored(StreamKind::tasks) == 0);
}

TEST_CASE("a sweep goes on until the tasks that still wait below what a server may have kept have ended") {
  FakeBus bus;
  FakeBus::Port port{bus, "head"};
  Tickets tickets;
  port.ensure(1, {StreamKind::tasks, 5}, {});
  for (int i = 0; i < 100; ++i) port.put(0, {{StreamKind::tasks, 5}, "b.m.7"}, {}, bytes_of("x"), {});
  QueueSweep sweep{port, tickets, "b", "7"};
  port.receive = [&](const EngineEvent& event) { (void)sweep.on_answer(std::get<Answer>(event)); };
  const auto pass = [&](Time time) {
    const Time until = bus.now + time;
    while (bus.now < until) {
      bus.deliver();
      bus.now += milliseconds{1};
    }
  };
  pass(milliseconds{10});
  REQUIRE(bus.stored(StreamKind::tasks) == 100);
  sweep.note_outages(bus.now, seconds{1}, 1);
  CHECK_FALSE(sweep.due(bus.now));
  pass(seconds{1});
  REQUIRE(sweep.due(bus.now));
  sweep.begin(bus.now, 90);
  sweep.sweep(bus.now, seconds{1}, 5, std::nullopt);  // the place of one that waits is not known
  pass(seconds{1});
  CHECK(bus.stored(StreamKind::tasks) == 100);
  REQUIRE(sweep.due(bus.now));
  sweep.sweep(bus.now, seconds{1}, 5, 31);
  pass(seconds{1});
  CHECK(bus.stored(StreamKind::tasks) == 70);
  REQUIRE(sweep.due(bus.now));
  sweep.begin(bus.now, 100);  // what came after the outage is no leftover
  sweep.sweep(bus.now, seconds{1}, 5, 96);
  pass(seconds{2});
  CHECK(bus.stored(StreamKind::tasks) == 10);
  CHECK_FALSE(sweep.due(bus.now));
}

TEST_CASE("a purge of the queue that the server does not get is asked again") {
  for (std::uint64_t lost = 0; lost < 40; ++lost) {
    HeadSettings settings;
    settings.lease = seconds{1};
    World world{1, 1, settings};
    world.bus.keeps_settled = true;
    for (int i = 0; i < 5; ++i) world.submit("x");
    REQUIRE(world.run_to_end());
    world.bus.keeps_settled = false;
    ++world.bus.outages;
    world.run_for(milliseconds{990});
    const std::uint64_t first = world.bus.sent();
    world.bus.fate = [&](std::uint64_t number) { return FakeBus::Fate{.lost = number == first + lost}; };
    world.run_for(seconds{5});
    CHECK_MESSAGE(world.bus.stored(StreamKind::tasks) == 0, "lost packet ", lost);
  }
}

TEST_CASE("the streams of an epoch that is over are removed, also where its head has ended") {
  World world{1};
  world.submit("a");
  REQUIRE(world.run_to_end());
  remove_task_stream(world);
  REQUIRE(world.run_until([&] { return world.head->counts().epochs == 2; }));
  world.submit("b");
  REQUIRE(world.run_to_end());
  CHECK(world.bus.streams(StreamKind::results) == 2);
  world.run_for(seconds{40});
  for (const StreamKind kind : {StreamKind::tasks, StreamKind::results, StreamKind::log, StreamKind::blobs})
    CHECK(world.bus.streams(kind) == 1);

  remove_task_stream(world);
  REQUIRE(world.run_until([&] { return world.head->counts().epochs == 3; }));
  world.head->close(world.bus.now);
  world.new_head({});  // knows of the former epoch by its key alone
  world.run_for(seconds{40});
  for (const StreamKind kind : {StreamKind::tasks, StreamKind::results, StreamKind::log, StreamKind::blobs})
    CHECK(world.bus.streams(kind) == 1);
}

TEST_CASE("results that were stored before the epoch changed are read, small and large ones") {
  for (const std::size_t size : {std::size_t{1}, std::size_t{3'000'000}}) {
    World world{2};
    const std::string text(size, 'x');
    std::vector<std::uint64_t> tasks;
    for (int i = 0; i < 4; ++i) tasks.push_back(world.submit(text));
    // The head's own feed of results stands still, as after a restart of the server.
    world.head_is_deaf = true;
    REQUIRE(world.run_until([&] { return world.bus.stored(StreamKind::results) == 4; }, seconds{9}));
    remove_task_stream(world);
    REQUIRE(world.run_until([&] { return world.head->counts().epochs == 2; }));
    world.head_is_deaf = false;
    REQUIRE(world.run_to_end());
    for (const auto task : tasks) {
      CHECK(world.has_value(task, text));
      CHECK(world.times_begun(task) == 1);
    }
  }
}

TEST_CASE(
    "a head that was stopped for longer than its grace goes on in the same epoch, beside a detached job") {
  HeadSettings own;
  own.head_grace = seconds{15};
  World world{2, 1, own};
  HeadSettings settings;
  settings.detached = settings.manifest.detached = true;
  settings.first_task = 100;
  OtherHead detached{world.bus, settings};
  world.others.push_back(&detached);
  world.run_for(seconds{1});
  for (auto& node : world.nodes) node->pool.run_time = seconds{25};
  for (int i = 0; i < 6; ++i) {  // none of them has retries
    TaskSpec spec;
    spec.arguments = bytes_of("d");
    detached.head.submit(world.bus.now, std::move(spec));
  }
  world.run_for(seconds{1});
  world.bus.cut.insert("head");
  world.run_for(seconds{22});
  world.bus.cut.clear();
  const auto task = world.submit("a");
  REQUIRE(world.run_until([&] { return world.head->open_tasks() == 0 && detached.head.open_tasks() == 0; },
                          seconds{1000}));
  CHECK(world.head->counts().epochs == 1);
  CHECK(world.has_value(task, "a"));
  CHECK(detached.head.counts().done == 6);
}

TEST_CASE("what nodes took out of the queue while their head was stopped is put there again at once") {
  HeadSettings own;
  own.head_grace = seconds{15};
  World world{2, 1, own};
  world.submit("first");
  REQUIRE(world.run_to_end());
  std::vector<std::uint64_t> tasks;
  for (int i = 0; i < 4; ++i) tasks.push_back(world.submit("a"));
  world.run_for(std::chrono::microseconds{250});  // they are in the queue, and no node has a permit
  REQUIRE(world.head->counts().held == 0);
  world.bus.cut.insert("head");
  world.run_for(seconds{22});
  world.bus.cut.clear();
  REQUIRE(world.run_to_end(seconds{10}));
  for (const auto task : tasks) {
    CHECK(world.has_value(task, "a"));
    CHECK(world.times_begun(task) == 1);
  }
  CHECK(world.head->counts().epochs == 1);
}
