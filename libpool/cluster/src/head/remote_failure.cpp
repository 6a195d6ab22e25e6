#include "head/remote_failure.hpp"

#include <fmt/format.h>

#include "kindred/internal/exception_codec.hpp"
#include "kindred/node_error.hpp"
#include "kindred/task_error.hpp"

namespace kindred {
namespace {

std::string lost_message(const internal::TaskFacts& task, const std::string& node,
                         const std::vector<std::string>& nodes, std::string_view why) {
  std::string others;
  for (const auto& each : nodes) others += (others.empty() ? "" : ", ") + each;
  std::string text =
      node.empty()
          ? fmt::format("{} was lost with a node that did not say its name: {}. ", to_string(task), why)
          : fmt::format("node {} was lost while it had {}: {}. ", node, to_string(task), why);
  if (nodes.size() > 1)
    return text + fmt::format("Attempts: {}; the nodes lost with it: {}. It may be what kills them.",
                              task.attempt, others);
  return text +
         "Nothing is known of how far it came, and it was not run again: set TaskOptions::retries where it "
         "may run twice.";
}

}  // namespace

NodeLost::NodeLost(const Details& details, std::string node, std::vector<std::string> nodes,
                   std::string_view why)
    : WorkerLost{details} {
  auto made = std::make_shared<Node>();
  made->message = lost_message(details.task, node, nodes, why);
  made->node = std::move(node);
  made->nodes = std::move(nodes);
  node_ = std::move(made);
}

namespace internal {
namespace {

using cluster::Ended;
using cluster::EndKind;

/// What a task threw, as its worker encoded it: each reader gets an object of its own.
class RemoteException final : public Failure {
 public:
  RemoteException(cluster::Bytes bytes, TaskFacts facts)
      : bytes_{std::move(bytes)}, facts_{std::move(facts)} {}
  [[nodiscard]] std::exception_ptr make() const override {
    Decoder decoder{ContextId{}, bytes_};
    return decode_exception(decoder, facts_);
  }

 private:
  cluster::Bytes bytes_;
  TaskFacts facts_;
};

template <class E>
std::unique_ptr<Failure> stored(E error) {
  return std::make_unique<StoredFailure<E>>(std::move(error));
}

TaskFacts facts_of(const Ended& ended) {
  TaskFacts facts;
  facts.task_id = ended.task;
  facts.task_name = ended.name;
  facts.attempt = ended.attempts;
  if (ended.how == Ended::How::result) {
    facts.worker = ended.result.worker;
    facts.pid = ended.result.pid;
    facts.incarnation = ended.result.incarnation;
  }
  return facts;
}

std::unique_ptr<Failure> failure_of_result(const Ended& ended) {
  const cluster::Result& result = ended.result;
  const TaskFacts facts = facts_of(ended);
  switch (result.kind) {
    case EndKind::threw: return std::make_unique<RemoteException>(result.bytes, facts);
    case EndKind::lost: {
      WorkerLost::Details details;
      details.exit_reason = {.kind = static_cast<ExitReason::Kind>(result.exit_kind),
                             .code = result.exit_code,
                             .signal = result.exit_signal,
                             .core_dumped = result.core_dumped};
      details.task = facts;
      details.last_log_lines = result.lines;
      details.backtrace = result.backtrace;
      details.evidence = fmt::format("It was a worker of node {}.{}{}", ended.node,
                                     result.text.empty() ? "" : " ", result.text);
      return stored(WorkerLost{std::move(details)});
    }
    case EndKind::timeout:
      return stored(TaskTimeout{facts, std::chrono::nanoseconds{result.limit_ns},
                                std::chrono::nanoseconds{result.ran_ns}});
    case EndKind::cancelled: return stored(Cancelled{facts, result.text});
    default:
      return stored(
          UsageError{fmt::format("node {} refused {}: {}", ended.node, to_string(facts), result.text)});
  }
}

}  // namespace

bool is_cancelled(const Ended& ended) noexcept {
  return ended.how == Ended::How::cancelled ||
         (ended.how == Ended::How::result && ended.result.kind == EndKind::cancelled);
}

std::unique_ptr<Failure> make_failure(const Ended& ended) {
  const TaskFacts facts = facts_of(ended);
  switch (ended.how) {
    case Ended::How::result: return failure_of_result(ended);
    case Ended::How::node_lost: {
      WorkerLost::Details details;
      details.task = facts;
      return stored(NodeLost{details, ended.node, ended.nodes, ended.text});
    }
    case Ended::How::cancelled: return stored(Cancelled{facts, ended.text});
    case Ended::How::queue_timeout:
      return stored(TaskTimeout{facts, ended.after, std::chrono::nanoseconds{0}});
    default:
      if (ended.broken) return stored(BrokenProcessPool{ended.text, nullptr, facts});
      return stored(UsageError{fmt::format("{} was not run: {}", to_string(facts), ended.text)});
  }
}

}  // namespace internal
}  // namespace kindred
