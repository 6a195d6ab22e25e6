// An executor over nodes on this machine's loopback, with a nats-server of its own.
//   --row ROW --count N --nodes N --workers N (of each node)
//     round_trip   one task after another, us
//     tasks_10ms   tasks that sleep for 10 ms, in % of what that number of workers could do
//     map          empty tasks, chunked by map, tasks/s
//     messages     empty tasks, one message each, tasks/s
//     node_death   from a node's SIGKILL until its tasks have begun elsewhere, s; the lease is 2 s
//     memory       of the head for each open task beyond its bytes, bytes
//     log          records of tasks until they are in the head's sink, records/s
#include <atomic>
#include <fstream>
#include <numeric>

#include <kindred/cluster.hpp>
#include <kindred/log.hpp>

#include "support/bench.hpp"
#include "support/cluster_machines.hpp"

namespace {

using namespace std::chrono_literals;

std::size_t echo(std::size_t number) { return number; }
int waits(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds{milliseconds});
  return milliseconds;
}
std::size_t logs(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) kindred::log_info("record {}", i);
  return count;
}

std::size_t resident_bytes() {
  std::ifstream in{"/proc/self/statm"};
  std::size_t pages = 0, resident = 0;
  in >> pages >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

struct Bench {
  const bench::Options& options;
  bench::ClusterMachines& machines;
  kindred::ClusterExecutor& cluster;
  std::size_t count;
  std::size_t workers;  ///< in all

  void round_trip() {
    bench::Samples samples{count};
    for (std::size_t done = 0; done < count + count / 10 + 1; ++done) {
      const double begin = bench::now_ns();
      if (cluster.submit(echo, done).get() != done) bench::fail("a wrong result");
      if (done > count / 10) samples.add(bench::now_ns() - begin);
    }
    samples.report("us", 1e-3);
  }
  void tasks_10ms() {
    std::vector<kindred::Future<int>> futures;
    const double begin = bench::now_ns();
    for (std::size_t i = 0; i < count; ++i) futures.push_back(cluster.submit(waits, 10));
    for (auto& future : futures) (void)future.get();
    const double took = bench::now_ns() - begin;
    bench::report(100.0 * static_cast<double>(count) * 10e6 / static_cast<double>(workers) / took, "%");
  }
  void map() {
    std::vector<std::size_t> items(count);
    std::iota(items.begin(), items.end(), std::size_t{0});
    std::size_t sum = 0;
    const double begin = bench::now_ns();
    for (const std::size_t value : cluster.map(echo, items)) sum += value;
    const double took = bench::now_ns() - begin;
    if (sum != count * (count - 1) / 2) bench::fail("a wrong result");
    bench::report(static_cast<double>(count) / took * 1e9, "tasks/s");
  }
  void messages() {
    std::vector<kindred::Future<std::size_t>> futures;
    futures.reserve(count);
    const double begin = bench::now_ns();
    for (std::size_t i = 0; i < count; ++i) futures.push_back(cluster.submit(echo, i));
    for (std::size_t i = 0; i < count; ++i) {
      if (futures[i].get() != i) bench::fail("a wrong result");
    }
    bench::report(static_cast<double>(count) / (bench::now_ns() - begin) * 1e9, "tasks/s");
  }
  void node_death() {
    std::vector<kindred::Future<int>> futures;
    for (std::size_t i = 0; i < workers; ++i) futures.push_back(cluster.submit({.retries = 3}, waits, 500));
    for (auto& future : futures) {
      while (!future.running()) std::this_thread::sleep_for(1ms);
    }
    machines.nodes[0].kill(SIGKILL);
    const double begin = bench::now_ns();
    for (auto& future : futures) (void)future.get();
    bench::report((bench::now_ns() - begin) / 1e9 - 0.5, "s");
  }
  void memory() {
    std::vector<kindred::Future<std::size_t>> futures;
    futures.reserve(count);
    machines.nodes.clear();
    const std::size_t before = resident_bytes();
    for (std::size_t i = 0; i < count; ++i) futures.push_back(cluster.submit(echo, i));
    const std::size_t after = resident_bytes();
    bench::report(static_cast<double>(after - std::min(after, before)) / static_cast<double>(count), "bytes");
    cluster.shutdown({.wait = true, .cancel_pending = true});
  }
  void log() {
    std::atomic<std::size_t> seen{0};
    cluster.logger().add_sink([&](const kindred::LogRecord& record) {
      if (record.message.starts_with("record ")) ++seen;
    });
    constexpr std::size_t each = 500;
    std::vector<kindred::Future<std::size_t>> futures;
    const double begin = bench::now_ns();
    for (std::size_t i = 0; i < count / each; ++i) futures.push_back(cluster.submit(logs, each));
    for (auto& future : futures) (void)future.get();
    const auto until = std::chrono::steady_clock::now() + 20s;
    while (seen + cluster.stats().log_lost < count / each * each && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(1ms);
    const double took = bench::now_ns() - begin;
    bench::report(static_cast<double>(seen) / took * 1e9, "records/s",
                  {{"lost", static_cast<double>(cluster.stats().log_lost)}});
  }
};

}  // namespace

int main(int argc, char** argv) {
  kindred::ClusterEntry entry{argc, argv};
  const bench::Options options{argc, argv};
  const std::string row = options.text("row", "round_trip");
  const std::size_t nodes = options.number("nodes", 2);
  const std::size_t each = options.number("workers", 1);
  bench::ClusterMachines machines;
  for (std::size_t i = 0; i < nodes; ++i) machines.start_node(BENCH_NODE, each);
  kindred::ClusterExecutor cluster{entry,
                                   {.name = "bench",
                                    .servers = {machines.url()},
                                    .min_nodes = static_cast<std::int64_t>(nodes),
                                    .node_timeout = 60s,
                                    .lease = 2s,
                                    .head_grace = 4s,
                                    .max_pending = 0}};
  std::vector<kindred::Future<int>> warm;
  for (std::size_t i = 0; i < 8 * nodes * each; ++i) warm.push_back(cluster.submit(waits, 20));
  for (auto& future : warm) (void)future.get();
  Bench work{options, machines, cluster, options.number("count", 2000), nodes * each};
  if (row == "round_trip")
    work.round_trip();
  else if (row == "tasks_10ms")
    work.tasks_10ms();
  else if (row == "map")
    work.map();
  else if (row == "messages")
    work.messages();
  else if (row == "node_death")
    work.node_death();
  else if (row == "memory")
    work.memory();
  else if (row == "log")
    work.log();
  else
    bench::fail("there is no row of this name");
}
