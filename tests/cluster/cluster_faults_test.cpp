#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include <dlfcn.h>

#include "cluster/tasks.hpp"
#include "engine/nats/nats_engine.hpp"

// What goes wrong on many machines: a real nats-server, real nodes, and where this process may make them,
// networks whose links are cut.
using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

void logs_and_is_killed(int n) {
  log_warn("last words {}", n);
  std::raise(SIGKILL);
}
int odd_dies(int number) {
  if (number % 2 != 0) throw std::out_of_range{"odd " + std::to_string(number)};
  return 10 * number;
}
/// Keeps every CPU and this worker's threads busy.
int burns(int milliseconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds{milliseconds};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 10 * std::thread::hardware_concurrency(); ++i) {
    threads.emplace_back([until] {
      while (std::chrono::steady_clock::now() < until) {}
    });
  }
  for (std::thread& thread : threads) thread.join();
  return milliseconds;
}
std::string in_job(std::string text) { return text; }
/// A key of these tests alone: its seed, and what the server knows of it.
const std::string head_key =
    "SUAOXLDANDVNSCRNGHKXZUOLTLM6MPENM5IN7Z3GW3AWP43ZVPPG6BJXWA\nUCQZZRI3FS33CHCA2MSU3JSVTPPR57TQAVE6HBGDHYOD6CYMV2Z7D3IX";

/// What a server's monitoring port says.
std::string monitored(int port, const std::string& what) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  std::string text;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) {
    const std::string request = "GET " + what + " HTTP/1.0\r\n\r\n";
    (void)!::write(fd, request.data(), request.size());
    char buffer[4096];
    for (ssize_t size = 0; (size = ::read(fd, buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<std::size_t>(size));
  }
  ::close(fd);
  return text;
}

/// Messages in the cluster's queue; -1: there is none.
long queued(int monitoring_port) {
  const std::string text = monitored(monitoring_port, "/jsz?streams=1");
  const auto name = text.find("_TASKS\"");
  const auto messages = name == std::string::npos ? name : text.find("\"messages\":", name);
  return messages == std::string::npos ? -1 : std::strtol(text.c_str() + messages + 11, nullptr, 10);
}

}  // namespace

TEST_CASE(
    "a task that kills its worker, again and again: each future fails by itself, and the node goes on") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  auto options = options_for(server);
  options.restart_limit = {.count = 1'000'000, .period = 1s};
  ClusterExecutor cluster{cluster_entry(), options};
  const int deaths = long_run() ? 1000 : 40;
  std::vector<Future<void>> killers;
  std::vector<Future<int>> others;
  for (int i = 0; i < deaths; ++i) {
    killers.push_back(cluster.submit(dies));
    if (i % 10 == 0) others.push_back(cluster.submit(twice, i));
  }
  for (auto& future : killers) CHECK_THROWS_AS(future.get(), WorkerLost);
  for (std::size_t i = 0; i < others.size(); ++i) CHECK(others[i].get() == 20 * static_cast<int>(i));
  CHECK(cluster.stats().nodes_lost == 0);
}

TEST_CASE(
    "a worker that the kernel kills: the future says the signal, the node, and what the worker logged last") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  auto dead = cluster.submit(logs_and_is_killed, 5);
  try {
    dead.get();
    FAIL("it has ended well");
  } catch (const WorkerLost& lost) {
    CHECK(lost.exit_reason().signal == SIGKILL);
    CHECK_CONTAINS(std::string{lost.what()}, "node a");
    REQUIRE_FALSE(lost.last_log_lines().empty());
    CHECK_CONTAINS(lost.last_log_lines().back(), "last words 5");
  }
}

TEST_CASE("callbacks, continuations and as_completed run also where the worker or the node died") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram a{server, "a", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::atomic<int> called{0};
  auto killed = cluster.submit(marks, folder.path(), 1, 60'000);
  killed.on_done([&](Future<int>&) { ++called; });
  auto chained = cluster.submit(dies).then([] { return 1; });
  CHECK_THROWS_AS(chained.get(), WorkerLost);
  REQUIRE(wait_until([&] { return killed.running(); }));
  auto with_node = cluster.submit(marks, folder.path(), 2, 60'000);
  with_node.on_done([&](Future<int>&) { ++called; });
  REQUIRE(wait_until([&] { return with_node.running(); }));
  (void)a.kill();
  std::vector<Future<int>> futures;
  futures.push_back(std::move(killed));
  futures.push_back(std::move(with_node));
  int lost = 0;
  for (auto& future : as_completed(futures, 30s)) {
    CHECK_THROWS_AS(future.get(), NodeLost);
    ++lost;
  }
  CHECK(lost == 2);
  CHECK(wait_until([&] { return called == 2; }));
}

TEST_CASE("every CPU and every thread of a node is busy: its signs of life go on") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  auto options = options_for(server);
  options.lease = 3s;
  options.head_grace = 6s;
  ClusterExecutor cluster{cluster_entry(), options};
  const int time = long_run() ? 20'000 : 1500;
  auto first = cluster.submit(burns, time);
  auto second = cluster.submit(burns, time);
  CHECK(first.get() == time);
  CHECK(second.get() == time);
  CHECK(cluster.stats().nodes_lost == 0);
}

TEST_CASE("a slow sink at the head holds no task back") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  std::atomic<int> seen{0};
  std::atomic<bool> goes_on{false};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  cluster.logger().add_sink([&](const LogRecord& record) {
    if (!record.message.starts_with("number ")) return;
    goes_on.wait(false);
    ++seen;
  });
  std::vector<Future<int>> futures;
  for (int i = 0; i < 80; ++i) futures.push_back(cluster.submit(logs, i));
  CHECK_MESSAGE(
      wait_until([&] { return std::ranges::all_of(futures, [](const auto& each) { return each.done(); }); },
                 60s),
      "the tasks wait for the sink");
  goes_on = true;
  goes_on.notify_all();
  CHECK(wait_until([&] {
    return seen + static_cast<int>(cluster.stats().log_lost) +
               static_cast<int>(cluster.logger().stats().dropped) >=
           80;
  }));
}

TEST_CASE("a function of a library that the node has not loaded is refused by the library's name") {
  if (slowness() > 1) KINDRED_SKIP("a sanitizer wants to come before all other libraries");
  KINDRED_NEEDS_NATS_SERVER();
  const std::string library = victim("part_1/libpart.so");
  void* const handle = ::dlopen(library.c_str(), RTLD_NOW);
  REQUIRE(handle != nullptr);
  auto* const times_part = reinterpret_cast<int (*)(int)>(::dlsym(handle, "times_part"));
  const bool found = times_part != nullptr;
  REQUIRE(found);
  NatsServer server;
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  {
    NodeProgram without{server, "a"};
    auto refused = cluster.submit(times_part, 4);
    CHECK_THROWS_CONTAINS(refused.get(), UsageError, "libpart.so");
    CHECK(cluster.submit(twice, 4).get() == 8);
    without.signal(SIGTERM);
    (void)without.wait();
  }
  NodeProgram with{server, "b", 1, {"--load-libraries"}};
  CHECK(cluster.submit(times_part, 4).get() == 4);
}

TEST_CASE("a server is killed under load: of what was acknowledged nothing comes back, and nothing stays") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  const int monitoring = free_port();
  NatsServer server{{"-m", std::to_string(monitoring)}};
  NodeProgram a{server, "a", 2};
  NodeProgram b{server, "b", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::vector<Future<int>> futures;
  for (int round = 0; round < 2; ++round) {
    const std::size_t done = cluster.stats().done;
    for (int i = 0; i < 150; ++i)
      futures.push_back(
          cluster.submit({.retries = i % 2}, marks, folder.path(), static_cast<int>(futures.size()), 5));
    REQUIRE(wait_until([&] { return cluster.stats().done > done + 30; }));
    server.kill();
    server.start();
  }
  for (std::size_t i = 0; i < futures.size(); ++i) {
    CHECK(futures[i].get() == static_cast<int>(i));
    if (i % 2 == 0) CHECK(lines_in(folder / std::to_string(i)) == 1);
  }
  const auto before = cluster.stats().done;
  CHECK_MESSAGE(wait_until([&] { return queued(monitoring) == 0; }),
                "left in the queue: ", queued(monitoring));
  CHECK(cluster.stats().done == before);
}

TEST_CASE("map_outcomes goes on where items fail") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  std::vector<int> input(500);
  std::iota(input.begin(), input.end(), 0);
  std::size_t index = 0;
  for (auto& outcome : cluster.map_outcomes(odd_dies, input)) {
    CHECK(outcome.index() == index);
    CHECK(outcome.has_value() == (index % 2 == 0));
    if (outcome.has_value())
      CHECK(outcome.value() == 10 * static_cast<int>(index));
    else
      CHECK_THROWS_AS(std::rethrow_exception(outcome.error()), std::out_of_range);
    ++index;
  }
  CHECK(index == 500);
  std::size_t kept = 0;
  for (auto& outcome : cluster.map(odd_dies, {1, 2, 3}, {.on_error = OnItemError::keep}))
    kept += outcome.has_value() ? 1U : 0U;
  CHECK(kept == 1);
}

TEST_CASE("a node that accepts some jobs only leaves the others to other nodes") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  NatsServer server;
  NodeProgram some{server, "some", 1, {"--accept-jobs", "frames*,preview"}};
  auto options = options_for(server);
  options.job = "sound";
  ClusterExecutor sound{cluster_entry(), options};
  auto waits = sound.submit(in_job, "sound");
  options.job = "frames_7";
  ClusterExecutor frames{cluster_entry(), options};
  CHECK(frames.submit(in_job, "frames").get() == "frames");
  CHECK_FALSE(waits.done());
  CHECK(members(sound) == 0);
  NodeProgram all{server, "all"};
  CHECK(waits.get() == "sound");
}

TEST_CASE("the roles of the page, by keys and over TLS: each does its work, and a node cannot do a head's") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  if (!run_quietly("openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext "
                   "subjectAltName=IP:127.0.0.1 -keyout " +
                   folder / "server.key" + " -out " + folder / "server.pem"))
    KINDRED_SKIP("there is no openssl to make certificates with");
  std::ofstream{folder / "head.nk"} << head_key << '\n';
  std::ofstream{folder / "node.nk"}
      << "SUABXIJVLRL3FSJG64GVEUF5R3APLQNGTDXMARNGDPQEEESN3KXNVXE53E\nUAADIK75GQKGATIPS4PGGZII26TPR3DT2HYEN6GYBJCGJW2DYQVVKLHZ\n";
  std::ostringstream page;
  page << std::ifstream{KINDRED_CLUSTER_PAGE}.rdbuf();
  std::string text = page.str();
  const auto begin = text.find("    authorization {");
  const auto end = text.find("\n    }\n", begin);
  REQUIRE(end != std::string::npos);
  text = text.substr(begin, end + 7 - begin);
  const auto replace = [&text](const std::string& what, const std::string& with) {
    std::size_t count = 0;
    for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size(), ++count)
      text.replace(at, what.size(), with);
    CHECK_MESSAGE(count != 0, "the page has no ", what);
  };
  replace("kn.render.", "kn.test.");
  replace("KN_render_", "KN_test_");
  replace("user: head, password: \"$2a$...\"",
          "nkey: UCQZZRI3FS33CHCA2MSU3JSVTPPR57TQAVE6HBGDHYOD6CYMV2Z7D3IX");
  replace("user: node, password: \"$2a$...\"",
          "nkey: UAADIK75GQKGATIPS4PGGZII26TPR3DT2HYEN6GYBJCGJW2DYQVVKLHZ");
  std::ofstream{folder / "server.conf"} << "tls { timeout: 30, cert_file: \"" << folder / "server.pem"
                                        << "\", key_file: \"" << folder / "server.key" << "\" }\n"
                                        << text;
  NatsServer server{{"-c", folder / "server.conf"}};
  const std::string url = "tls" + server.url().substr(4);
  NodeProgram a{
      server, "a", 1, {"--servers", url, "--nkey", folder / "node.nk", "--tls-ca", folder / "server.pem"}};
  auto options = options_for(server);
  options.servers = {url};
  options.tls.ca = folder / "server.pem";
  options.nkey = folder / "head.nk";
  {
    ClusterExecutor cluster{cluster_entry(), options};
    CHECK(cluster.submit(twice, 4).get() == 8);
    CHECK(cluster.submit({.retries = 1}, in_job, std::string(2'000'000, 'x')).get().size() == 2'000'000);
    CHECK_THROWS_AS(cluster.submit(dies).get(), WorkerLost);
    std::vector<int> values;
    for (const int value : cluster.map(twice, {1, 2, 3})) values.push_back(value);
    CHECK(values == std::vector<int>{2, 4, 6});
  }
  {
    auto detached = options;
    detached.job = "frames";
    detached.detached = true;
    ClusterExecutor cluster{cluster_entry(), detached};
    auto task = cluster.submit(twice, 5);
    CHECK(task.get() == 10);
    CHECK(cluster.result<int>(task.task_id()).get() == 10);
    cluster.drop(task.task_id());
  }
  auto stolen = options;
  stolen.nkey = folder / "node.nk";  // as a node that has been taken over
  stolen.node_timeout = 10s;
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), stolen}), SystemError, "Permissions Violation");
  auto nobody = options;
  nobody.nkey.clear();
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), nobody}), SystemError, "Authorization");
  auto plain = options;
  plain.tls.ca.clear();
  plain.servers = {server.url()};
  plain.node_timeout = 2s;
  CHECK_THROWS_AS((ClusterExecutor{cluster_entry(), plain}), SystemError);
}

TEST_CASE("a key signs whatever the server asks: no connection is refused by chance") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  std::ofstream{folder / "head.nk"} << head_key << '\n';
  std::ofstream{folder / "server.conf"}
      << "authorization { users: [{ nkey: " << head_key.substr(head_key.find('\n') + 1) << " }] }\n";
  NatsServer server{{"-c", folder / "server.conf"}};
  kindred::EngineOptions options;
  options.servers = {server.url()};
  options.nkey = folder / "head.nk";
  // A signature in 256 begins with a zero byte, which the client left out.
  for (int i = 0; i < 1000; ++i)
    REQUIRE(kindred::internal::cluster::connect_to_nats(options, "test", "a test", 10s, [](auto) {}));
}

TEST_CASE(
    "a node whose link is cut in mid-task: the task runs elsewhere, and nothing of the stale run is told") {
  KINDRED_NEEDS_NATS_SERVER();
  KINDRED_NEEDS_NETWORKS();
  TemporaryFolder folder;
  Network far{1};
  NatsServer server{{}, true, "0.0.0.0"};
  NodeProgram away{server, "away", 1, {}, "/proc/self/exe", &far};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  auto task = cluster.submit({.retries = 2}, marks_until_go, folder.path(), 1);
  auto once = cluster.submit(marks, folder.path(), 2, 10);  // waits behind it
  REQUIRE(wait_until([&] { return task.running(); }));
  far.cut();
  NodeProgram here{server, "here", 2};
  REQUIRE(wait_until([&] { return lines_in(folder / "1") == 2; }));
  std::ofstream{folder / "go"};
  far.mend();
  CHECK(task.get() == 1);
  CHECK(once.get() == 2);
  CHECK(lines_in(folder / "2") == 1);
  CHECK(cluster.stats().nodes_lost == 1);
  // It is back, and works.
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  CHECK(lines_in(folder / "1") == 2);
  for (int i = 0; i < 20; ++i) CHECK(cluster.submit(twice, i).get() == 2 * i);
}

TEST_CASE(
    "a connection whose packets vanish: the client notices by its own pings, and goes on when they come again") {
  KINDRED_NEEDS_NATS_SERVER();
  KINDRED_NEEDS_NETWORKS();
  if (!long_run()) KINDRED_SKIP("the client's pings take 15 s: only in the long run");
  Network far{2};
  TemporaryFolder store;
  ProgramOptions running;
  running.timeout = 30min;
  const std::string port = std::to_string(free_port());
  Program server{"/sbin/ip",
                 {"netns", "exec", far.name(), nats_server_path(), "-a", "0.0.0.0", "-p", port, "-js", "-sd",
                  store.path()},
                 running};
  ClusterOptions options;
  options.name = "test";
  options.servers = {"nats://" + far.address_there() + ":" + port};
  options.insecure = true;
  options.node_timeout = 60s;
  ClusterExecutor cluster{cluster_entry(), options};
  const auto pauses = cluster.stats().pauses;
  far.cut();
  const auto cut = std::chrono::steady_clock::now();
  REQUIRE(wait_until([&] { return cluster.stats().pauses > pauses; }));
  CHECK(std::chrono::steady_clock::now() - cut < 20s);
  auto waits = cluster.submit(twice, 4);
  far.mend();
  NodeProgram a{options.servers[0], "a", 1, {"--insecure"}};
  CHECK(waits.get() == 8);
  cluster.shutdown();
  server.signal(SIGKILL);
}
