// The public names of an executor over many machines: programs that nobody here has seen are compiled against
// them.
// One include, as the page has it.
#include <kindred/cluster.hpp>

#include <concepts>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <vector>

#include "support/test.hpp"

using namespace kindred;
using namespace std::chrono_literals;

namespace {

int twice(int value) { return 2 * value; }
std::string key_of(Worker& worker) {
  kindred::log_info("attempt {} of {}", worker.attempt(), worker.task_id());
  return worker.idempotency_key();
}
void prepare(int) {}

// Never run: it only has to compile.
[[maybe_unused]] void as_a_user_writes_it(int argc, char** argv) {
  ClusterEntry entry{argc, argv};
  ClusterExecutor cluster{
      entry,
      {.name = "render", .servers = {"tls://nats.farm:4222"}, .credentials = "head.creds", .min_nodes = 2}};
  cluster.logger().add_sink(sinks::callback([](const LogRecord&) {}));
  for (const int value : cluster.map(twice, std::views::iota(0, 10'000))) cluster.logger().info("{}", value);
  try {
    (void)cluster.submit({.timeout = 1min, .retries = 2}, twice, 7).get();
  } catch (const NodeLost& lost) {
    cluster.logger().error("{} on {}", lost.what(), lost.node());
  }
  for (auto& outcome :
       cluster.map_outcomes(twice, std::vector<int>{1, 2}, {.item_timeout = 1s, .retries = 1}))
    if (!outcome.has_value()) cluster.logger().error("{}", outcome.index());
  for (auto& outcome : cluster.map(twice, {1, 2}, {.on_error = OnItemError::keep})) (void)outcome.error();
  for (const int value : cluster.map<twice>(std::vector<int>{1, 2})) (void)value;
  cluster.logger().add_sink(sinks::stdout_color());
  Future<std::string> key = cluster.submit(key_of);
  key.on_done([](Future<std::string>&) {});
  (void)key.cancel(Running::ask);
  Future<int> submitted = cluster.submit(twice, 1);
  auto tried = cluster.try_submit(twice, 1);
  static_assert(std::is_same_v<decltype(tried), std::optional<Future<int>>>);
  Future<int> again = cluster.result<int>(submitted.task_id());
  for (const ClusterTaskInfo& task : cluster.tasks()) cluster.drop(task.id);
  for (const NodeInfo& node : cluster.nodes())
    cluster.logger().info("{} {} {} {} {} {}", node.name, node.builds.size(), node.slots, node.running,
                          node.rtt.count(), node.clock_offset.count());
  cluster.on_node([](const NodeEvent&) {});
  const ClusterStats stats = cluster.stats();
  cluster.logger().info("{} {}", stats.pending, stats.per_node.size());
  cluster.shutdown({.wait = false});
}

template <class T>
concept MakesMutex = requires(T& executor) { executor.make_mutex(); };

}  // namespace

TEST_CASE("every option of a cluster has the name and the default of its contract") {
  ClusterOptions options{.name = "render",
                         .servers = {"tls://nats.farm:4222"},
                         .credentials = "head.creds",
                         .nkey = {},
                         .user = {},
                         .tls = {.ca = "ca.pem", .cert = {}, .key = {}, .host = "nats.farm"},
                         .job = "frames",
                         .detached = true,
                         .min_nodes = 1,
                         .node_timeout = 30s,
                         .lease = 10s,
                         .head_grace = 30s,
                         .keep_results = 1h,
                         .replicas = 1,
                         .durability = Durability::ledger,
                         .max_pending = 10'000,
                         .inline_limit = 256U << 10U,
                         .max_ledger_bytes = 1U << 30U,
                         .initializer = {prepare, 3},
                         .finalizer = {},
                         .initializer_timeout = 1s,
                         .max_tasks_per_worker = 0,
                         .max_rss_per_worker = 0,
                         .restart_limit = {},
                         .log = {}};
  CHECK_NOTHROW(options.validate());
  const ClusterOptions defaults;
  CHECK_FALSE(defaults.detached);
  CHECK(defaults.job.empty());
  CHECK(defaults.node_timeout == 30s);
  CHECK(defaults.lease == 10s);
  CHECK(defaults.head_grace == 30s);
  CHECK(defaults.replicas == 1);
  CHECK(defaults.durability == Durability::ledger);
  CHECK(defaults.max_pending == 10'000);
  CHECK(defaults.inline_limit == 256U << 10U);
  CHECK(defaults.max_ledger_bytes == 1U << 30U);
  options.durability = Durability::fsync;
  CHECK_THROWS_CONTAINS(options.validate(), UsageError, "sync_interval");
  options.durability = Durability::memory;
  options.job.clear();
  CHECK_THROWS_CONTAINS(options.validate(), UsageError, "job has no name");
  const NodeOptions node{.cluster = "render",
                         .engine = {},
                         .name = "n1",
                         .max_workers = 16,
                         .start_method = StartMethod::forkserver,
                         .worker = {},
                         .prefetch = 2,
                         .accept_jobs = {"frames*"},
                         .drain_on_term = true,
                         .drain_grace = 30s};
  CHECK_NOTHROW(node.validate());
}

TEST_CASE("a lost node is a lost worker, and shared objects do not compile") {
  static_assert(std::derived_from<NodeLost, WorkerLost>);
  static_assert(std::derived_from<ClusterEntry, Entry>);
  static_assert(!MakesMutex<ClusterExecutor>);
  static_assert(MakesMutex<ProcessPoolExecutor>);
  static_assert(!std::is_move_constructible_v<ClusterExecutor>);
}
