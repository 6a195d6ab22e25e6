#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kindred/cluster_options.hpp"
#include "kindred/count.hpp"
#include "kindred/start_method.hpp"
#include "kindred/worker_options.hpp"

namespace kindred {

/// How a node works: what `kindred-node` is told on its command line.
struct NodeOptions {
  /// The cluster's name, and where its servers are.
  std::string cluster = {};
  EngineOptions engine = {};
  /// This node's name, of letters, digits, - and _; empty: the host's name. Two nodes of one name would
  /// confuse the heads: a node that hears of another one with its name ends at once.
  std::string name = {};
  /// Most workers at once, over all jobs; 0: the CPUs that this process may use.
  Count max_workers = 0;
  StartMethod start_method = StartMethod::forkserver;
  WorkerOptions worker = {};
  /// Tasks that are fetched beyond those that run. Nothing: as many as run for 5 ms, so that long tasks are
  /// never fetched ahead.
  std::optional<std::uint32_t> prefetch = {};
  /// Jobs that this node works for: patterns with * and ? of `ClusterOptions::job`; none: all. What it does
  /// not accept goes back, to come to another node a second later; so this is for few kinds of jobs, and a
  /// cluster's name of their own for many.
  std::vector<std::string> accept_jobs = {};
  /// SIGTERM and SIGINT: takes no more tasks, gives back those that have not begun, and lets the others end,
  /// for at most `drain_grace`. False: what runs is killed at once.
  bool drain_on_term = true;
  std::chrono::nanoseconds drain_grace = std::chrono::seconds{30};

  void validate() const;
};

}  // namespace kindred
