#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kindred/task_error.hpp"

namespace kindred {

/// The node that had the task was lost: its machine, its process, or the way to it. Nothing is known of how
/// far the task came, and it is not run again by itself: without `TaskOptions::retries` a task is begun at
/// most once. With retries this error comes when that many further nodes were lost with it.
///
/// Also a `WorkerLost`, whose `exit_reason()` is `lost` here.
class NodeLost : public WorkerLost {
 public:
  NodeLost(const Details& details, std::string node, std::vector<std::string> nodes, std::string_view why);

  [[nodiscard]] const char* what() const noexcept override { return node_->message.c_str(); }
  /// Returns the name of the node that had the task last.
  [[nodiscard]] const std::string& node() const noexcept { return node_->node; }
  /// Returns the names of all nodes that were lost with the task, in order.
  [[nodiscard]] const std::vector<std::string>& nodes() const noexcept { return node_->nodes; }

 private:
  struct Node {
    std::string node;
    std::vector<std::string> nodes;
    std::string message;
  };
  std::shared_ptr<const Node> node_;
};

}  // namespace kindred
