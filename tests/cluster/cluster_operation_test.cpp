#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>
#include <vector>

#include "cluster/tasks.hpp"
#include "engine/nats/nats_engine.hpp"
#include "kindred/internal/tail_client.hpp"
#include "kindred/internal/tail_request.hpp"
#include "wire/messages.hpp"

// What those who run a cluster use: the log of one node from another terminal, metrics, signed messages.
using namespace kindred;
using namespace kindred::test;
using namespace std::chrono_literals;

namespace {

int fails(int number) { throw std::out_of_range{"number " + std::to_string(number)}; }
std::string echo(std::string text) { return text; }

/// Lines that the door of this process's log answers, until it is done.
std::vector<std::string> ask(const kindred::internal::TailRequest& request) {
  std::vector<std::string> lines;
  for (const auto& pool : kindred::internal::find_pools()) {
    if (pool.pid != static_cast<std::uint32_t>(::getpid())) continue;
    kindred::internal::ask_pool(pool, request);
    kindred::internal::PoolAnswers answers{pool.socket};
    while (const auto answer = answers.next(std::chrono::steady_clock::now() + 20s, [] {})) {
      if (!answer->empty() && answer->front() == kindred::internal::tail_answer::done) break;
      lines.emplace_back(*answer);
    }
  }
  return lines;
}

std::size_t count_of(const std::vector<std::string>& lines, const std::string& text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      lines, [&](const std::string& line) { return line.find(text) != std::string::npos; }));
}

}  // namespace

TEST_CASE("kindred-tail follows the head's log, and shows the records of one node") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a"};
  NodeProgram b{server, "b"};
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  std::vector<Future<int>> futures;
  for (int i = 0; i < 60; ++i) futures.push_back(cluster.submit(logs, i));
  for (auto& future : futures) (void)future.get();
  kindred::internal::TailRequest request;
  request.follow = false;
  request.last = kindred::internal::TailRequest::all;
  request.text = "number ";
  REQUIRE(wait_until([&] { return ask(request).size() == 60; }));
  request.nodes = {"a"};
  const auto of_a = ask(request);
  request.nodes = {"b"};
  const auto of_b = ask(request);
  CHECK(of_a.size() + of_b.size() == 60);
  CHECK_FALSE(of_a.empty());
  CHECK_FALSE(of_b.empty());
  CHECK(count_of(of_a, "\"node\":\"a\"") == of_a.size());
  CHECK(count_of(of_b, "\"node\":\"b\"") == of_b.size());
  request.nodes = {"a", "b"};
  CHECK(ask(request).size() == 60);
  request.nodes = {"c"};
  CHECK(ask(request).empty());
}

TEST_CASE("the metrics of a head: tasks by outcome, workers of each node, lost nodes") {
  KINDRED_NEEDS_NATS_SERVER();
  NatsServer server;
  NodeProgram a{server, "a", 2};
  auto b = std::make_unique<NodeProgram>(server, "b", 1);
  ClusterExecutor cluster{cluster_entry(), options_for(server)};
  REQUIRE(wait_until([&] { return members(cluster) == 2; }));
  for (int i = 0; i < 5; ++i) CHECK(cluster.submit(logs, i).get() == i);
  CHECK_THROWS_AS(cluster.submit(fails, 1).get(), std::out_of_range);
  const auto sample = [](const std::string& begin, const std::string& end) {
    const auto lines = ask({.ask = "metrics"});
    return std::ranges::any_of(lines, [&](const std::string& line) {
      return line.starts_with("kindred_cluster_" + begin + "{pool=\"" + std::to_string(::getpid()) + "/") &&
             line.ends_with(end);
    });
  };
  CHECK(sample("tasks_ended_total", "cluster=\"test\",outcome=\"done\"} 5"));
  CHECK(sample("tasks_ended_total", "outcome=\"failed\"} 1"));
  CHECK(sample("node_workers", "node=\"a\"} 2"));
  CHECK(sample("node_workers", "node=\"b\"} 1"));
  CHECK(sample("nodes_lost_total", "} 0"));
  (void)b->kill();
  CHECK(wait_until([&] { return sample("nodes_lost_total", "} 1"); }));
  CHECK_FALSE(sample("node_workers", "node=\"b\"} 1"));
}

TEST_CASE("signed messages: heads and nodes with the key work, others are told and get nothing") {
  KINDRED_NEEDS_NATS_SERVER();
  TemporaryFolder folder;
  std::ofstream{folder / "key"} << std::string(64, 'k') << "\n";
  std::ofstream{folder / "other"} << std::string(64, 'o') << "\n";
  NatsServer server;
  NodeProgram a{server, "a", 1, {"--sign-key", folder / "key"}};
  NodeProgram wrong{server, "wrong", 1, {"--sign-key", folder / "other"}};
  NodeProgram none{server, "none", 1};
  auto options = options_for(server);
  options.sign_key = folder / "key";
  ClusterExecutor cluster{cluster_entry(), options};
  std::atomic<bool> told{false};
  cluster.logger().add_sink([&](const LogRecord& record) {
    if (record.message.find("is not signed with the key of this cluster") != std::string::npos) told = true;
  });
  CHECK(cluster.submit(logs, 4).get() == 4);
  CHECK(cluster.submit(echo, std::string(2'000'000, 'x')).get().size() == 2'000'000);
  REQUIRE(wait_until([&] { return told.load(); }));
  CHECK(cluster.nodes().size() == 1);

  // A server that was taken over may send what it likes; here it says that the job has ended.
  EngineOptions plain;
  plain.servers = {server.url()};
  const auto thief =
      kindred::internal::cluster::connect_to_nats(plain, "test", "thief", 10s, [](const auto&) {});
  for (int i = 0; i < 50; ++i) {
    thief->tell({kindred::internal::cluster::Address::Kind::node, "a"},
                std::vector<std::byte>(static_cast<std::size_t>(i), std::byte{1}));
    thief->tell({kindred::internal::cluster::Address::Kind::heads},
                std::vector<std::byte>(static_cast<std::size_t>(i), std::byte{1}));
  }
  CHECK(cluster.submit(logs, 5).get() == 5);
  CHECK(cluster.stats().nodes_lost == 0);

  std::ofstream{folder / "short"} << "hunter2\n";
  options.sign_key = folder / "short";
  CHECK_THROWS_CONTAINS((ClusterExecutor{cluster_entry(), options}), UsageError, "openssl rand -hex 32");
}
