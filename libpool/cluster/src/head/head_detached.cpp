#include <algorithm>

#include <fmt/format.h>

#include "head/head.hpp"

// Jobs that go on without their head. No permits: the engine alone says which node has a task, and a head
// finds out what became of one from evidence: what nodes name, what the results have, and what is in the
// queue.
namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t most_in_a_look = 16;

}  // namespace

// Only where no result is there yet: then the last message at the task's place stays its result.
void Head::record(std::uint64_t id, OpenTask& task) {
  Result record;
  record.job = settings_.job;
  record.task = id;
  record.kind = EndKind::submitted;
  record.run = static_cast<std::uint32_t>(std::max(task.spec.retries, 0));
  record.blob.size = task.sequence;
  Outbox::Item item;
  item.kind = StreamKind::results;
  item.path = fmt::format("{}.{}", job_key(), id);
  item.id = fmt::format("s.{}.{}", item.path, task.published);
  item.cookie = id;
  item.unless_there = true;
  item.bytes = encode(build_, entered_, Message{std::move(record)});
  feeds_.records.add(std::move(item));
}

void Head::note_detached(std::uint64_t id, const Result& result) {
  bool& ended = feeds_.known[id];
  ended = ended || (result.kind != EndKind::submitted && result.kind != EndKind::returned);
}

bool Head::all_recorded() const {
  return publisher_.waiting() == 0 && feeds_.records.empty() &&
         std::ranges::none_of(ledger_.tasks(), [](const auto& each) {
           const OpenTask& task = each.second;
           return !task.adopted && !task.recorded && task.peer == nullptr;
         });
}

std::map<std::uint64_t, bool> Head::known_tasks() const {
  std::map<std::uint64_t, bool> known = feeds_.known;
  for (const auto& [id, task] : ledger_.tasks()) known.try_emplace(id, false);
  return known;
}

void Head::adopt(Time now, std::uint64_t id) {
  if (ledger_.get(id) != nullptr) return;
  ledger_.adopt(now, id);
  doubt(now, id, *ledger_.get(id), {}, "no result of it is stored, and no node has it");
}

void Head::drop(Time now, std::uint64_t id) {
  const auto found = ledger_.find(id);
  if (found != ledger_.tasks().end()) {
    if (found->second.peer != nullptr)
      (void)cancel(now, id, Running::kill);
    else
      end_cancelled(now, found, "it was dropped");
  }
  feeds_.known.erase(id);
  if (epoch_.ready())
    engine_.purge(0, {{StreamKind::results, entered_}, fmt::format("{}.{}", job_key(), id)}, 0);
}

void Head::observe(Peer& peer, const HeldTask& held) {
  OpenTask* const task = ledger_.get(held.task);
  if (task == nullptr || held.state == HeldState::claimed) return;
  if (task->peer == &peer) {
    task->claim = held.claim;
    return;
  }
  release(held.task, *task);
  task->peer = &peer;
  task->claim = held.claim;
  ++held_;
  peer.held.insert(held.task);
}

void Head::answer_detached(Time now, std::uint64_t id, const Answer& answer) {
  OpenTask& task = *ledger_.get(id);
  Doubt& doubt = *task.doubt;
  doubt.asked = 0;
  if (answer.how == Answer::How::refused || answer.how == Answer::How::conflict) return;  // asked again
  const bool found = answer.how == Answer::How::done;
  if (doubt.at_queue) {
    doubt.at_queue = false;
    if (found) {  // it waits there, or its node's lease is not over
      task.stored = now;
      release(id, task);
    } else if (doubt.sure_at == Time{0}) {
      doubt.sure_at = now + std::max<Time>(settings_.lease / 2, 300ms);
    } else {
      conclude(now, id);
    }
    return;
  }
  auto envelope = found ? decode(build_, answer.bytes) : std::nullopt;
  auto* const result = envelope ? std::get_if<Result>(&envelope->message) : nullptr;
  if (result != nullptr && result->kind != EndKind::submitted && result->kind != EndKind::returned) {
    on_result(now, std::move(*result));
    return;
  }
  if (task.adopted && result != nullptr && result->kind == EndKind::submitted) {
    task.sequence = result->blob.size;
    task.spec.retries = static_cast<std::int32_t>(std::min<std::uint32_t>(result->run, 60'000));
  }
  if (task.sequence == 0) {
    end(now, ledger_.find(id),
        {.how = Ended::How::refused,
         .text = fmt::format(
             "the engine knows no task {} of this job. It was never submitted, was dropped, or ended longer "
             "ago than keep_results, or the engine has lost its store",
             id)});
    return;
  }
  doubt.at_queue = true;
}

// Some of those that no node names, in turn: their messages may have left the queue with a node that died at
// once.
void Head::look_for_lost(Time now) {
  if (now < times_.lost) return;
  times_.lost = now + 500ms;
  const auto waits = ledger_.ids([&](const OpenTask& task) {
    return task.peer == nullptr && !task.doubt && task.sequence != 0 && now - task.stored > settings_.lease;
  });
  if (waits.empty()) return;
  auto next = std::ranges::upper_bound(waits, feeds_.looked_at);
  for (std::size_t i = 0; i < std::min(most_in_a_look, waits.size()); ++i, ++next) {
    if (next == waits.end()) next = waits.begin();
    feeds_.looked_at = *next;
    doubt(now, *next, *ledger_.get(*next), {},
          "it left the queue, and no node has it or has stored its result");
  }
}

}  // namespace kindred::internal::cluster
