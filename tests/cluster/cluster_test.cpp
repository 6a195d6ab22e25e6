#include <atomic>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "cluster/tasks.hpp"

using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int throws(int index) { return std::vector<int>(3).at(static_cast<std::size_t>(index)); }
void logs_and_dies(int n) {
  log_warn("last words {}", n);
  std::raise(SIGSEGV);
}
int sleeps(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds{milliseconds});
  return milliseconds;
}
struct Model {
  int factor = 0;
};
void load(int factor) { this_worker().state<Model>().factor = factor; }
int use(int value) { return value * this_worker().state<Model>().factor; }
void fails_to_load() { throw std::runtime_error{"no model here"}; }
std::string echo(std::string text) { return text; }
int waits_for_stop(Worker& worker) {
  while (!worker.stop_requested()) std::this_thread::sleep_for(1ms);
  return 7;
}

}  // namespace

TEST_CASE("values, errors and deaths of workers come through as in a local pool") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  NodeProgram b{server, "b", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  CHECK(cluster.submit(twice, 21).get() == 42);
  CHECK(cluster.submit<twice>(4).get() == 8);
  CHECK(cluster
            .submit([](const std::vector<std::string>& parts) { return parts.size(); },
                    std::vector<std::string>{"a", "b"})
            .get() == 2);
  auto thrown = cluster.submit({.name = "thrower"}, throws, 7);
  CHECK_THROWS_AS(thrown.get(), std::out_of_range);
  CHECK_THROWS_CONTAINS(thrown.get(), TaskError, "thrower");
  auto dead = cluster.submit({.name = "dier"}, dies);
  CHECK_THROWS_CONTAINS(dead.get(), WorkerLost, "SIGKILL");
  CHECK_THROWS_CONTAINS(dead.get(), WorkerLost, "It was a worker of node");
  auto late = cluster.submit({.timeout = 100ms}, sleeps, 60'000);
  CHECK_THROWS_AS(late.get(), TaskTimeout);
  auto shared = cluster.submit(twice, 1).then([](int value) { return value + 1; });
  CHECK(shared.get() == 3);
  std::vector<Future<int>> futures;
  for (int i = 0; i < 50; ++i) futures.push_back(cluster.submit(twice, i));
  int sum = 0;
  for (auto& future : as_completed(futures, 30s)) sum += future.get();
  CHECK(sum == 2450);
  const ClusterStats stats = cluster.stats();
  CHECK(stats.nodes_lost == 0);
  CHECK(stats.done >= 53);
}

TEST_CASE("map gives results in order, chunked, and the error of the item that threw") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::vector<int> input(20'000);
  std::iota(input.begin(), input.end(), 0);
  int expected = 0;
  for (const int value : cluster.map(twice, input)) {
    REQUIRE(value == 2 * expected);
    ++expected;
  }
  CHECK(expected == 20'000);
  CHECK(cluster.stats().submitted < 5'000);
  int before = 0;
  try {
    for (const int value : cluster.map(throws, {0, 1, 2, 3, 4}, {.chunk_size = 2})) before += value + 1;
    FAIL("nothing was thrown");
  } catch (const std::out_of_range&) {}
  CHECK(before == 3);
}

TEST_CASE("an item of a map that takes longer than item_timeout fails alone") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::vector<bool> has_value;
  for (auto& outcome : cluster.map_outcomes(sleeps, {1, 60'000, 2, 3}, {.item_timeout = 2s * slowness()})) {
    has_value.push_back(outcome.has_value());
    if (!outcome.has_value()) CHECK_THROWS_AS(std::rethrow_exception(outcome.error()), TaskTimeout);
  }
  CHECK((has_value == std::vector{true, false, true, true}));
}

TEST_CASE(
    "a node killed in the middle: its tasks fail as NodeLost and never run again, or run elsewhere with retries") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a", 2};
  auto b = std::make_unique<NodeProgram>(server, "b", 2);
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  std::vector<Future<int>> once, again;
  for (int i = 0; i < 40; ++i) {
    once.push_back(cluster.submit(marks, folder.path(), i, 50));
    again.push_back(cluster.submit({.retries = 3}, marks, folder.path(), 1000 + i, 50));
  }
  REQUIRE(wait_until([&] { return cluster.stats().done > 10; }));
  const pid_t pid = b->pid();
  (void)b->kill();
  int lost = 0;
  for (int i = 0; i < 40; ++i) {
    try {
      const int value = once[static_cast<std::size_t>(i)].get();
      CHECK(value == i);
    } catch (const NodeLost& error) {
      CHECK(error.node() == "b");
      CHECK_CONTAINS(error.what(), "nothing was heard of it");
      ++lost;
    }
    CHECK(lines_in(folder / std::to_string(i)) <= 1);
    CHECK(again[static_cast<std::size_t>(i)].get() == 1000 + i);
  }
  CHECK(lost <= 4);
  CHECK(wait_until([&] { return cluster.stats().nodes_lost == 1; }));
  CHECK(wait_until([&] { return descendants(pid).empty(); }));
}

TEST_CASE(
    "a task that kills every node it comes to ends as NodeLost with their names, and the rest goes on") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  std::vector<std::unique_ptr<NodeProgram>> nodes;
  for (const char* const name : {"a", "b", "c"}) nodes.push_back(std::make_unique<NodeProgram>(server, name));
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  REQUIRE(wait_until([&] { return members(cluster) == 3; }));
  auto poison = cluster.submit(
      {.name = "poison", .retries = 1},
      [](std::vector<int> pids) {
        for (const int pid : pids) {  // the one of them that is above this worker
          for (const auto& each : descendants(pid)) {
            if (each.pid == ::getpid()) ::kill(pid, SIGKILL);
          }
        }
        std::this_thread::sleep_for(20s);
      },
      std::vector<int>{nodes[0]->pid(), nodes[1]->pid(), nodes[2]->pid()});
  try {
    poison.get();
    FAIL("it ended with a value");
  } catch (const NodeLost& error) {
    CHECK(error.nodes().size() == 2);
    CHECK(error.attempt() == 2);
    CHECK_CONTAINS(error.what(), "poison");
  }
  CHECK(cluster.submit(twice, 1).get() == 2);
}

TEST_CASE("each attempt of a task knows its number, and has the same idempotency key") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  TemporaryFolder keys;
  NodeProgram a{server, "a"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  auto task = cluster.submit(
      {.retries = 2},
      [](Worker& worker, const std::string& folder) {
        std::ofstream{folder + "/keys", std::ios::app} << worker.idempotency_key() << '\n';
        if (worker.attempt() < 3) std::raise(SIGKILL);
        if (worker.task_id() == 0) throw std::logic_error{"no task"};
        return worker.attempt();
      },
      keys.path());
  CHECK(task.get() == 3);
  std::ifstream in{keys / "keys"};
  std::multiset<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.insert(line);
  CHECK(lines.size() == 3);
  CHECK(std::set<std::string>(lines.begin(), lines.end()).size() == 1);
}

TEST_CASE("the server is killed and started again under load: no task is lost, and nothing ends twice") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a", 2};
  NodeProgram b{server, "b", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 300; ++i) futures.push_back(cluster.submit(marks, folder.path(), i, 20));
  const int rounds = long_run() ? 20 : 3;
  for (int round = 0; round < rounds; ++round) {
    const auto done = cluster.stats().done;
    (void)wait_until([&] { return cluster.stats().done > done + 5 || cluster.stats().done == 300; });
    server.kill(round % 2 == 0 ? SIGKILL : SIGTERM);
    server.start();
  }
  for (int i = 0; i < 300; ++i) {
    CHECK(futures[static_cast<std::size_t>(i)].get() == i);
    CHECK(lines_in(folder / std::to_string(i)) == 1);
  }
  CHECK(cluster.stats().nodes_lost == 0);
}

TEST_CASE("a server that is gone for good: every future ends after node_timeout, with words") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a"};
  {  // the node has started: the two seconds are for the server's end alone
    ClusterExecutor first{cluster_entry(), options_for(server)};
    REQUIRE(wait_until([&] { return members(first) == 1; }));
  }
  auto options = options_for(server);
  options.node_timeout = 2s;
  ClusterExecutor cluster{cluster_entry(), options};
  auto running = cluster.submit(sleeps, 60'000);
  auto pending = cluster.submit(twice, 1);
  REQUIRE(wait_until([&] { return running.running(); }));
  server.kill();
  CHECK_THROWS_CONTAINS(pending.get(), UsageError, "has carried nothing");
  CHECK_THROWS_AS(running.get(), NodeLost);
}

TEST_CASE("a server that is stopped for longer than the lease costs no node") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  auto running = cluster.submit(sleeps, 500);
  REQUIRE(wait_until([&] { return running.running(); }));
  server.signal(SIGSTOP);
  std::this_thread::sleep_for(1500ms);  // the time that is tested: longer than the lease
  server.signal(SIGCONT);
  CHECK(running.get() == 500);
  CHECK(cluster.stats().nodes_lost == 0);
}

TEST_CASE("a node that is stopped and goes on again runs nothing of what was given to others") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  auto task = cluster.submit({.retries = 2}, marks_until_go, folder.path(), 1);
  REQUIRE(wait_until([&] { return task.running(); }));
  NodeProgram b{server, "b"};
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  a.signal(SIGSTOP);
  REQUIRE(wait_until([&] { return lines_in(folder / "1") == 2; }));
  std::ofstream{folder / "go"};
  a.signal(SIGCONT);
  CHECK(task.get() == 1);
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  CHECK(cluster.submit(twice, 2).get() == 4);
  CHECK(lines_in(folder / "1") == 2);
}

TEST_CASE("cancel: what waits never runs, what runs is asked or killed") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  auto running = cluster.submit(waits_for_stop);
  auto pending = cluster.submit(marks, folder.path(), 1, 0);
  REQUIRE(wait_until([&] { return running.running(); }));
  CHECK_FALSE(running.cancel());
  CHECK(pending.cancel());
  CHECK(pending.cancelled());
  CHECK_THROWS_AS(pending.get(), Cancelled);
  CHECK_FALSE(running.cancel(Running::ask));
  CHECK(running.get() == 7);
  auto killed = cluster.submit(sleeps, 60'000);
  REQUIRE(wait_until([&] { return killed.running(); }));
  CHECK(killed.cancel(Running::kill));
  CHECK(killed.cancelled());
  CHECK(cluster.submit(twice, 1).get() == 2);
  CHECK_FALSE(std::filesystem::exists(folder / "1"));
}

TEST_CASE(
    "one log: every record of every node once, with its node, and a dead worker's before its future fails") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  NodeProgram b{server, "b", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::mutex mutex;
  std::vector<LogRecord> records;
  cluster.logger().add_sink([&](const LogRecord& record) {
    const std::scoped_lock lock{mutex};
    records.push_back(record);
  });
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  std::vector<Future<int>> futures;
  for (int i = 0; i < 500; ++i) futures.push_back(cluster.submit(logs, i));
  for (auto& future : futures) future.wait();
  const auto count = [&](std::string_view beginning) {
    const std::scoped_lock lock{mutex};
    std::multiset<std::string> texts;
    for (const LogRecord& record : records) {
      if (record.message.starts_with(beginning)) texts.insert(record.message);
    }
    return texts;
  };
  REQUIRE(wait_until([&] { return count("number ").size() >= 500; }));
  const auto texts = count("number ");
  CHECK(texts.size() == 500);
  CHECK(std::set<std::string>(texts.begin(), texts.end()).size() == 500);
  std::set<std::string> nodes;
  bool own_tasks = true;
  {
    const std::scoped_lock lock{mutex};
    for (const LogRecord& record : records) {
      if (!record.message.starts_with("number ")) continue;
      for (const Field& field : record.fields) {
        if (field.key == "node") nodes.insert(std::get<std::string>(field.value));
      }
      own_tasks = own_tasks && record.task_id != 0 && record.task_id <= 500;
    }
  }
  CHECK(nodes == std::set<std::string>{"a", "b"});
  CHECK(own_tasks);
  auto dead = cluster.submit(logs_and_dies, 9);
  try {
    dead.get();
  } catch (const WorkerLost& error) {
    REQUIRE_FALSE(error.last_log_lines().empty());
    CHECK(count("last words 9").size() == 1);
  }
  // The level is changed while everything runs.
  cluster.logger().set_level(Level::warn);
  REQUIRE(wait_until([&] {
    const auto before = count("number ").size();
    cluster.submit(logs, 600).wait();
    std::this_thread::sleep_for(300ms);
    return count("number ").size() == before;
  }));
}

TEST_CASE(
    "an initializer runs once in each worker of each node; where it fails everywhere the job is broken with it") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  {
    auto options = options_for(server);
    options.initializer = {load, 3};
    ClusterExecutor cluster{cluster_entry(), options};
    std::vector<int> values;
    for (const int value : cluster.map(use, {1, 2, 3, 4})) values.push_back(value);
    CHECK(values == std::vector<int>{3, 6, 9, 12});
  }
  auto options = options_for(server);
  options.initializer = {fails_to_load};
  ClusterExecutor cluster{cluster_entry(), options};
  auto future = cluster.submit(twice, 1);
  CHECK_THROWS_CONTAINS(future.get(), BrokenProcessPool, "no model here");
  CHECK_THROWS_AS((void)cluster.submit(twice, 2), BrokenProcessPool);
}

TEST_CASE("values larger than the server's largest message go both ways") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::string large(20'000'000, 'x');
  for (std::size_t i = 0; i < large.size(); i += 1000) large[i] = static_cast<char>('a' + i % 7);
  CHECK(cluster.submit(echo, large).get() == large);
}

TEST_CASE("a node that is told to end gives back what waits, ends what runs, and leaves") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a"};
  NodeProgram b{server, "b"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  std::vector<Future<int>> futures;
  for (int i = 0; i < 60; ++i) futures.push_back(cluster.submit(marks, folder.path(), i, 20));
  REQUIRE(wait_until([&] { return cluster.stats().done > 5; }));
  b.signal(SIGTERM);
  const kindred::test::Outcome outcome = b.wait();
  CHECK_MESSAGE(outcome.code == 0, to_string(outcome));
  for (int i = 0; i < 60; ++i) {
    CHECK(futures[static_cast<std::size_t>(i)].get() == i);
    CHECK(lines_in(folder / std::to_string(i)) == 1);
  }
  CHECK(cluster.stats().nodes_lost == 0);
  CHECK(wait_until([&] { return members(cluster) == 1; }));
}

TEST_CASE("when the executor ends, the nodes' workers end too; when the head is killed, after its grace") {
  KINDRED_SKIP_UNDER_TSAN("a head that was forked beside threads may start none");
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  {
    ClusterExecutor cluster{cluster_entry(), options_for(server)};
    CHECK(cluster.submit(twice, 1).get() == 2);
    CHECK_FALSE(descendants(a.pid()).empty());
  }
  CHECK(wait_until([&] { return descendants(a.pid()).empty(); }));
  const kindred::test::Outcome head = run_forked([&] {
    ClusterExecutor cluster{cluster_entry(), options_for(server)};
    auto future = cluster.submit(sleeps, 600'000);
    if (!wait_until([&] { return future.running(); })) std::_Exit(3);
    std::raise(SIGKILL);
  });
  CHECK(head.signal == SIGKILL);
  CHECK_FALSE(descendants(a.pid()).empty());
  CHECK(wait_until([&] { return descendants(a.pid()).empty(); }));
}

TEST_CASE("max_pending holds submit back, and try_submit gives nothing") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a"};
  auto options = options_for(server);
  options.max_pending = 3;
  ClusterExecutor cluster{cluster_entry(), options};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 3; ++i) futures.push_back(cluster.submit(marks_until_go, folder.path(), i));
  CHECK_FALSE(cluster.try_submit(twice, 1));
  std::jthread lets_them_end{[&] {
    CHECK(wait_until([&] { return lines_in(folder / "0") == 1; }));
    std::ofstream{folder / "go"};
  }};
  CHECK(cluster.submit(twice, 5).get() == 10);
  CHECK(cluster.try_submit(twice, 1));
}

TEST_CASE("a node of another build gets nothing, and the error names both builds") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  TemporaryFolder folder;
  NodeProgram other{server, "other", 1, {}, victim("cluster_other_build")};
  auto options = options_for(server);
  // A node of another build does not hear of the lease, and beats each second: it is in sight all the time.
  options.lease = 3s;
  options.head_grace = 6s;
  options.node_timeout = 3s;
  ClusterExecutor cluster{cluster_entry(), options};
  REQUIRE(wait_until([&] { return cluster.nodes().size() == 1; }));
  auto future = cluster.submit(twice, 1);
  CHECK_THROWS_CONTAINS(future.get(), UsageError, "other runs build");
  CHECK(descendants(other.pid()).empty());
}

TEST_CASE("two nodes of one name: the second one says so and ends") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  REQUIRE(wait_until([&] { return members(cluster) == 1; }));
  NodeProgram second{server, "a"};
  const kindred::test::Outcome outcome = second.wait();
  CHECK(outcome.code == 70);
  CHECK_CONTAINS(outcome.err, "has a node named a already");
}

TEST_CASE("wrong credentials are told at once, with the server's words") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server{{"--user", "head", "--pass", "right"}};
  auto options = options_for(server);
  options.user = "head";
  options.password = "wrong";
  const auto begun = std::chrono::steady_clock::now();
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), options}), SystemError, "Authorization");
  CHECK(std::chrono::steady_clock::now() - begun < 10s);
}

TEST_CASE("a server beyond this machine is refused without TLS and credentials") {
  ClusterOptions options;
  options.name = "test";
  options.servers = {"nats://192.0.2.1:4222"};
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), options}), UsageError, "is not encrypted");
  options.servers = {"tls://192.0.2.1:4222"};
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), options}), UsageError,
                        "nothing proves who connects");
  options.name = "a.b";
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), options}), UsageError, "'a.b'");
}

TEST_CASE("a forged node is refused") {
  char path[4096];
  const auto size = ::readlink("/proc/self/exe", path, sizeof path);
  const std::string self(path, static_cast<std::size_t>(size));
  const kindred::test::Outcome one = run_program(self, {"--kindred-node"});
  CHECK(one.code == 70);
  CHECK_CONTAINS(one.err, "but not its environment");
  ProgramOptions marked;
  marked.environment = {"KINDRED_NODE=0"};
  const kindred::test::Outcome both = run_program(self, {"--kindred-node"}, marked);
  CHECK(both.code == 70);
  CHECK_CONTAINS(both.err, "not the options that kindred-node leaves");
}

TEST_CASE(
    "a detached job: the process that submitted is killed, and another one has the results by their numbers") {
  KINDRED_SKIP_UNDER_TSAN("a head that was forked beside threads may start none");
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  auto options = options_for(server);
  options.job = "frames";
  options.detached = true;
  const kindred::test::Outcome head = run_forked([&] {
    ClusterExecutor cluster{cluster_entry(), options};
    std::ofstream numbers{folder / "numbers"};
    for (int i = 0; i < 20; ++i)
      numbers << cluster.submit(marks, folder.path(), 5000 + i, 20).task_id() << '\n';
    numbers.close();
    cluster.shutdown({.wait = false});
    std::raise(SIGKILL);
  });
  CHECK(head.signal == SIGKILL);
  NodeProgram a{server, "a", 2};
  std::vector<std::uint64_t> ids;
  std::ifstream in{folder / "numbers"};
  for (std::uint64_t id = 0; in >> id;) ids.push_back(id);
  REQUIRE(ids.size() == 20);
  ClusterExecutor cluster{cluster_entry(), options};
  REQUIRE(wait_until([&] { return cluster.tasks().size() == 20; }));
  for (int i = 0; i < 20; ++i) CHECK(cluster.result<int>(ids[static_cast<std::size_t>(i)]).get() == 5000 + i);
  CHECK(lines_in(folder / "5000") == 1);
  CHECK(cluster.submit(twice, 4).get() == 8);
  cluster.drop(ids[0]);
  CHECK_THROWS_CONTAINS(cluster.result<int>(ids[0]).get(), UsageError, "knows no task");
}

TEST_CASE(
    "the server's store is wiped under load: every future has its value, and nothing without retries ran twice") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a", 2};
  NodeProgram b{server, "b", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::vector<Future<int>> futures;
  for (int i = 0; i < 200; ++i)
    futures.push_back(cluster.submit({.retries = i % 2}, marks, folder.path(), i, 20));
  REQUIRE(wait_until([&] { return cluster.stats().done > 20; }));
  server.kill();
  server.wipe();
  server.start();
  for (int i = 0; i < 200; ++i) {
    CHECK(futures[static_cast<std::size_t>(i)].get() == i);
    if (i % 2 == 0) CHECK(lines_in(folder / std::to_string(i)) == 1);
  }
  const ClusterStats stats = cluster.stats();
  CHECK(stats.epochs == 2);
  CHECK(stats.nodes_lost == 0);
}

TEST_CASE("a server without JetStream is told at once, and how to start it") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server{{}, false};
  auto options = options_for(server);
  options.node_timeout = 1s;
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), options}), SystemError, "-js");
}
