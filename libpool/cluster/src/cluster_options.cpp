#include "kindred/cluster_options.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "kindred/error.hpp"
#include "kindred/node_options.hpp"
#include "names.hpp"

namespace kindred {
namespace {

std::string host_of(std::string_view server) {
  if (const auto scheme = server.find("://"); scheme != std::string_view::npos)
    server.remove_prefix(scheme + 3);
  if (const auto user = server.rfind('@'); user != std::string_view::npos) server.remove_prefix(user + 1);
  if (server.starts_with('[')) return std::string{server.substr(1, server.find(']') - 1)};
  return std::string{server.substr(0, server.find(':'))};
}

bool is_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

void require_positive(const char* name, std::chrono::nanoseconds time, std::chrono::nanoseconds least) {
  if (time >= least) return;
  throw UsageError{fmt::format("{} is {} ns. Use {} ns or more.", name, time.count(), least.count())};
}

void require_range(const char* name, Count count, std::int64_t least) {
  if (count.value() >= least) return;
  throw UsageError{fmt::format("{} is {}. Use {} or more.", name, count.value(), least)};
}

}  // namespace

void EngineOptions::validate() const {
  if (servers.empty()) throw UsageError{"servers is empty. Name one, e.g. nats://127.0.0.1:4222."};
  if (tls.cert.empty() != tls.key.empty())
    throw UsageError{"of tls.cert and tls.key only one is set. Set both, or none."};
  if (insecure) return;
  for (const std::string& server : servers) {
    if (is_loopback(host_of(server))) continue;
    const bool encrypted = server.starts_with("tls://") || !tls.ca.empty();
    const bool known = !credentials.empty() || !nkey.empty() || !user.empty() || !tls.cert.empty() ||
                       server.find('@') != std::string::npos;
    if (encrypted && known) continue;
    throw UsageError{fmt::format(
        "the server {} is not on this machine, and {}. Any program that can publish there can run code on every node: use "
        "tls:// and credentials (or user, or tls.cert), or set insecure where the network is trusted.",
        server, encrypted ? "nothing proves who connects" : "the connection is not encrypted")};
  }
}

void ClusterOptions::validate() const {
  using namespace std::chrono_literals;
  internal::check_name("ClusterOptions::name", name);
  engine().validate();
  require_range("ClusterOptions::min_nodes", min_nodes, 0);
  require_range("ClusterOptions::max_pending", max_pending, 0);
  require_range("ClusterOptions::max_tasks_per_worker", max_tasks_per_worker, 0);
  require_range("ClusterOptions::max_rss_per_worker", max_rss_per_worker, 0);
  require_range("ClusterOptions::restart_limit.count", restart_limit.count, 0);
  require_positive("ClusterOptions::node_timeout", node_timeout, 1ms);
  require_positive("ClusterOptions::lease", lease, 500ms);
  require_positive("ClusterOptions::head_grace", head_grace, lease);
  if (!job.empty()) internal::check_name("ClusterOptions::job", job);
  if (detached && job.empty())
    throw UsageError{
        "ClusterOptions::detached is set, and job has no name: by it another process finds the results."};
  if (replicas.value() < 1 || replicas.value() > 5)
    throw UsageError{fmt::format("ClusterOptions::replicas is {}. Use 1 to 5.", replicas.value())};
  if (durability == Durability::fsync && !assume_fsync)
    throw UsageError{
        "ClusterOptions::durability is fsync. nats-server acknowledges what is not on its disk yet, unless it has "
        "`sync_interval: always` (2.10 or later), and a client cannot ask for that: configure the servers so, and set "
        "assume_fsync."};
  if (inline_limit < 1024)
    throw UsageError{fmt::format("ClusterOptions::inline_limit is {}. Use 1024 or more.", inline_limit)};
  if (keep_results) require_positive("ClusterOptions::keep_results", *keep_results, 1s);
  require_positive("ClusterOptions::restart_limit.period", restart_limit.period, 1ns);
  if (initializer_timeout) require_positive("ClusterOptions::initializer_timeout", *initializer_timeout, 1ns);
}

void NodeOptions::validate() const {
  using namespace std::chrono_literals;
  internal::check_name("the cluster's name", cluster);
  internal::check_name("the node's name", name);
  engine.validate();
  if (max_workers.value() < 0 || max_workers.value() > 4096)
    throw UsageError{
        fmt::format("the number of workers is {}. Use 1 to 4096, or 0 for the CPUs of this machine.",
                    max_workers.value())};
  require_positive("the drain's grace", drain_grace, 0ns);
}

}  // namespace kindred
