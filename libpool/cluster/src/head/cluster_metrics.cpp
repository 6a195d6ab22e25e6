#include "head/cluster_metrics.hpp"

#include <chrono>
#include <cstdint>
#include <utility>

#include <fmt/format.h>

namespace kindred::internal::cluster {
namespace {

/// A node's name is what its packets say; within a label it gets no more than a name may have.
std::string label_of(std::string name) {
  for (char& c : name) {
    const bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '_' || c == '.';
    if (!fits) c = '_';
  }
  return name;
}

class Families {
 public:
  Families(std::string_view cluster, std::string_view pool)
      : labels_{fmt::format("pool=\"{}\",cluster=\"{}\"", pool, cluster)} {}

  void family(std::string_view name, std::string_view type, std::string_view help) {
    name_ = name;
    out_ +=
        fmt::format("# TYPE kindred_cluster_{} {}\n# HELP kindred_cluster_{} {}\n", name, type, name, help);
  }
  template <class Number>
  void sample(std::string_view suffix, std::string_view more, Number value) {
    out_ += fmt::format("kindred_cluster_{}{}{{{}{}}} {}\n", name_, suffix, labels_, more, value);
  }
  template <class Number>
  void counter(std::string_view name, std::string_view help, Number value) {
    family(name, "counter", help);
    sample("_total", {}, value);
  }
  [[nodiscard]] std::string take() { return std::move(out_); }

 private:
  std::string labels_;
  std::string name_;
  std::string out_;
};

double seconds(std::chrono::nanoseconds time) { return std::chrono::duration<double>(time).count(); }

void put_tasks(Families& families, const ClusterStats& stats) {
  families.family("tasks_ended", "counter", "Tasks by how they ended.");
  const auto ended = [&](const char* outcome, std::uint64_t count) {
    families.sample("_total", fmt::format(",outcome=\"{}\"", outcome), count);
  };
  ended("done", stats.done);
  ended("failed", stats.failed);
  ended("lost", stats.lost);
  ended("cancelled", stats.cancelled);
  families.family("tasks", "gauge", "Tasks that have not ended: in the queue, or with a node.");
  families.sample("", ",state=\"pending\"", stats.pending);
  families.sample("", ",state=\"held\"", stats.held);
  families.counter("tasks_submitted", "Tasks that were submitted.", stats.submitted);
  families.counter("tasks_retried", "Runs that were begun again.", stats.retried);
}

void put_engine(Families& families, const ClusterStats& stats) {
  families.counter("published", "Tasks that were put into the queue of the servers.", stats.published);
  families.counter("republished", "Tasks that were put there again.", stats.republished);
  families.counter("redelivered", "Tasks that the servers gave out twice.", stats.redelivered);
  families.counter("duplicates_dropped", "Results of tasks that had ended.", stats.duplicates_dropped);
  families.counter("pauses", "Times that the connection to the servers was lost.", stats.pauses);
  families.counter("epochs", "Times that the store of the servers was begun anew, the first included.",
                   stats.epochs);
  families.counter("log_lost", "Log records of nodes of which only the number has come.", stats.log_lost);
  families.family("ledger_bytes", "gauge", "Bytes of the arguments of open tasks, in the head's memory.");
  families.sample("", {}, stats.ledger_bytes);
}

void put_nodes(Families& families, const ClusterStats& stats) {
  families.counter("nodes_lost", "Nodes that were lost with what they ran.", stats.nodes_lost);
  const auto gauge = [&](const char* name, const char* help, auto value_of) {
    families.family(name, "gauge", help);
    for (const NodeInfo& node : stats.per_node) {
      if (node.member) families.sample("", fmt::format(",node=\"{}\"", label_of(node.name)), value_of(node));
    }
  };
  gauge("node_workers", "Workers of the node at once.", [](const NodeInfo& node) { return node.slots; });
  gauge("node_tasks_held", "Tasks of this head that the node has.",
        [](const NodeInfo& node) { return node.held; });
  gauge("node_tasks_running", "Of these, as far as the node has said so.",
        [](const NodeInfo& node) { return node.running; });
  gauge("node_round_trip_seconds", "Time of a message to the node and back.",
        [](const NodeInfo& node) { return seconds(node.rtt); });
  gauge("node_clock_offset_seconds", "The node's clock minus the head's.",
        [](const NodeInfo& node) { return seconds(node.clock_offset); });
  gauge("node_silence_seconds", "How long ago the node was heard of.",
        [](const NodeInfo& node) { return seconds(node.last_heard); });
}

}  // namespace

std::string metrics_text(const ClusterStats& stats, std::string_view cluster, std::string_view pool) {
  Families families{cluster, pool};
  put_tasks(families, stats);
  put_engine(families, stats);
  put_nodes(families, stats);
  return families.take();
}

}  // namespace kindred::internal::cluster
