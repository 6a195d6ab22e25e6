#include <algorithm>

#include <fmt/format.h>

#include "head/head.hpp"

// Jobs that go on without their head. It permits nothing: which node runs a task is settled between the nodes
// and the engine (node_detached.cpp). A task's message is in the queue until its result is stored, and the
// first result is its result. So a head reads how a task ended, and it can prevent a task's begin as a node
// begins it: by a record that the engine stores only over the one that was read.
namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_in_a_look = 16;
constexpr Time look_every = 500ms;
constexpr Time patience = 1s;
constexpr Time tell_again = 250ms;

}  // namespace

// --- what is written down

void Head::record(std::uint64_t id, OpenTask& task) {
  Submitted record{.job = settings_.job,
                   .task = id,
                   .sequence = task.sequence,
                   .retries = task.spec.retries,
                   .name = task.spec.name};
  Outbox::Item item;
  item.path = fmt::format("{}.{}.submitted", job_key(), id);
  item.id = fmt::format("s.{}.{}", item.path, task.published);
  item.cookie = id;
  item.bytes = encode(build_, entered_, Message{std::move(record)});
  detached_.records.add(std::move(item));
}

void Head::record_cancelled(std::uint64_t id, const std::string& text) {
  Result result;
  result.job = settings_.job;
  result.task = id;
  result.kind = EndKind::cancelled;
  result.text = text;
  Outbox::Item item;
  item.path = fmt::format("{}.{}", job_key(), id);
  item.id = "c." + item.path;
  item.unless_there = true;
  item.bytes = encode(build_, entered_, Message{std::move(result)});
  detached_.records.add(std::move(item));
}

void Head::remove_stored(std::uint64_t id) {
  detached_.known.erase(id);
  if (!epoch_.ready()) return;
  const std::string path = fmt::format("{}.{}", job_key(), id);
  // A node may still have its message in hand: it is not to begin it anew.
  Begun record;
  record.job = settings_.job;
  record.task = id;
  record.cancelled = true;
  engine_.put(0, {{StreamKind::results, entered_}, path + ".begun"}, {},
              encode(build_, entered_, Message{std::move(record)}), {});
  for (const std::string& each : {path, path + ".submitted"})
    engine_.erase_at(0, Place{{StreamKind::results, entered_}, each}, 0);
}

// --- what is known

void Head::note(std::uint64_t id, Known state) {
  Known& known = detached_.known[id];
  if (known != Known::ended) known = state;
}

void Head::on_begun(Time, const Begun& begun) {
  if (!settings_.detached) return;
  const bool runs = begun.life != 0;
  if (begun.cancelled) return;
  note(begun.task, runs ? Known::running : Known::pending);
  if (OpenTask* const task = ledger_.get(begun.task)) task->begun = runs;
}

void Head::on_submitted(const Submitted& submitted) {
  if (!settings_.detached) return;
  detached_.known.try_emplace(submitted.task, Known::pending);
}

bool Head::all_recorded() const {
  return std::ranges::none_of(ledger_.tasks(), [](const auto& each) {
    const OpenTask& task = each.second;
    return !task.adopted && !task.recorded && !task.adrift;
  });
}

std::map<std::uint64_t, Head::Known> Head::known_tasks() const {
  std::map<std::uint64_t, Known> known = detached_.known;
  for (const auto& [id, task] : ledger_.tasks())
    known.try_emplace(id, is_running(id) ? Known::running : Known::pending);
  return known;
}

void Head::adopt(Time now, std::uint64_t id) {
  if (ledger_.get(id) != nullptr) return;
  ledger_.adopt(now, id);
  const auto known = detached_.known.find(id);
  ledger_.get(id)->begun = known != detached_.known.end() && known->second == Known::running;
  detached_.work[id] = {};
}

void Head::drop(Time now, std::uint64_t id) {
  if (!settings_.detached) {
    (void)cancel(now, id, Running::kill);
    return;
  }
  const auto known = detached_.known.find(id);
  if (ledger_.get(id) == nullptr && (known == detached_.known.end() || known->second == Known::ended)) {
    remove_stored(id);
    return;
  }
  if (ledger_.get(id) == nullptr) {
    adopt(now, id);
    ledger_.get(id)->sequence = 0;
  }
  detached_.dropped.insert(id);
  (void)cancel_detached(now, id, Running::kill, false);
}

// --- cancels

Head::CancelState Head::cancel_detached(Time now, std::uint64_t id, Running how, bool timed_out) {
  OpenTask& task = *ledger_.get(id);
  task.answer.reset();
  if (timed_out && task.begun) return CancelState::refused;
  Work& work = detached_.work[id];
  work = {.step = task.begun ? Work::Step::read_begun : Work::Step::put_cancelled,
          .since = now,
          .how = how,
          .timed_out = timed_out};
  ask_detached(now, id);
  return CancelState::asked;
}

void Head::cancelled_detached(Time now, std::uint64_t id) {
  const auto found = ledger_.find(id);
  const bool timed_out = detached_.work[id].timed_out;
  note(id, Known::ended);
  record_cancelled(id, timed_out ? "it waited longer than its queue_timeout" : "before it began");
  if (timed_out)
    end(now, found, {.how = Ended::How::queue_timeout});
  else
    end_cancelled(now, found, "before it began");
}

void Head::answer_cancel(Time now, std::uint64_t id, const Answer& answer) {
  Work& work = detached_.work[id];
  if (work.step == Work::Step::put_cancelled) {
    if (answer.how == Answer::How::done) return cancelled_detached(now, id);
    if (answer.how == Answer::How::conflict) work.step = Work::Step::read_begun;
    return;
  }
  work.last = {};
  work.revision = 0;
  work.step = Work::Step::put_cancelled;
  if (answer.how == Answer::How::missing) return;
  const auto envelope = decode(build_, answer.bytes);
  const auto* const begun = envelope ? std::get_if<Begun>(&envelope->message) : nullptr;
  if (begun == nullptr) return;
  work.last = *begun;
  work.revision = answer.number;
  if (begun->cancelled) return cancelled_detached(now, id);
  if (begun->life == 0) return;
  OpenTask& task = *ledger_.get(id);
  task.begun = true;
  if (work.how == Running::leave) {
    task.answer = CancelAnswer::begun;
    detached_.work.erase(id);
    return;
  }
  work.step = Work::Step::tell_node;
}

void Head::on_detached_reply(const CancelReply& reply) {
  const auto work = detached_.work.find(reply.task);
  OpenTask* const task = ledger_.get(reply.task);
  if (work == detached_.work.end() || task == nullptr || work->second.step != Work::Step::tell_node) return;
  if (reply.answer != CancelAnswer::begun) return;  // told again, or its result is on the way
  task->answer = reply.answer;
  if (work->second.how == Running::ask) detached_.work.erase(work);
}

// --- questions and answers

void Head::ask_detached(Time now, std::uint64_t id) {
  Work& work = detached_.work[id];
  if (work.step == Work::Step::tell_node) {
    if (work.asked_at != Time{0} && now - work.asked_at < tell_again) return;
    work.asked_at = now;
    if (now - work.since > settings_.lease) {
      const std::string text = "while it ran; its node did not say that it was killed";
      const bool killed = work.how == Running::kill;
      detached_.work.erase(id);
      if (!killed) return;
      record_cancelled(id, text);
      note(id, Known::ended);
      end_cancelled(now, ledger_.find(id), text);
      return;
    }
    tell({Address::Kind::node, work.last.node},
         Message{Cancel{.job = settings_.job, .life = work.last.life, .task = id, .how = work.how}});
    return;
  }
  if (!epoch_.ready() || (work.asked != 0 && now - work.asked_at < patience)) return;
  work.asked = tickets_.next();
  work.asked_at = now;
  const std::string path = fmt::format("{}.{}", job_key(), id);
  const Stream results{StreamKind::results, entered_};
  switch (work.step) {
    case Work::Step::result:
    case Work::Step::last_result: return engine_.find(work.asked, {results, path});
    case Work::Step::submitted: return engine_.find(work.asked, {results, path + ".submitted"});
    case Work::Step::queue:
      return engine_.find(work.asked, Stream{StreamKind::tasks, entered_}, ledger_.get(id)->sequence);
    case Work::Step::put_cancelled: {
      Begun record = work.last;
      record.job = settings_.job;
      record.task = id;
      record.life = 0;
      record.cancelled = true;
      const Expect expect = work.revision == 0 ? Expect{Expect::What::absent, 0}
                                               : Expect{Expect::What::revision, work.revision};
      engine_.put(work.asked, {results, path + ".begun"}, {},
                  encode(build_, entered_, Message{std::move(record)}), expect);
      return;
    }
    default: engine_.find(work.asked, {results, path + ".begun"});
  }
}

bool Head::on_detached_answer(Time now, const Answer& answer) {
  std::vector<Outbox::Item> recorded;
  if (detached_.records.on_answer(now, answer, recorded)) {
    for (const Outbox::Item& item : recorded) {
      if (OpenTask* const task = ledger_.get(item.cookie)) task->recorded = true;
    }
    return true;
  }
  const auto found = std::ranges::find_if(
      detached_.work, [&](const auto& each) { return each.second.asked == answer.ticket; });
  if (found == detached_.work.end()) return false;
  if (answer.how == Answer::How::refused) return true;  // asked again
  const std::uint64_t id = found->first;
  found->second.asked = 0;
  if (ledger_.get(id) == nullptr) {
    detached_.work.erase(found);
    return true;
  }
  if (found->second.step < Work::Step::queue)
    answer_adopted(now, id, answer);
  else if (found->second.step < Work::Step::put_cancelled)
    answer_lost(now, id, answer);
  else
    answer_cancel(now, id, answer);
  if (const auto work = detached_.work.find(id); work != detached_.work.end() && work->second.asked == 0)
    ask_detached(now, id);
  return true;
}

void Head::answer_adopted(Time now, std::uint64_t id, const Answer& answer) {
  Work& work = detached_.work[id];
  auto envelope = answer.how == Answer::How::done ? decode(build_, answer.bytes) : std::nullopt;
  OpenTask& task = *ledger_.get(id);
  if (work.step == Work::Step::result) {
    work.step = Work::Step::submitted;
    auto* const result = envelope ? std::get_if<Result>(&envelope->message) : nullptr;
    if (result == nullptr) return;
    detached_.work.erase(id);
    on_result(now, std::move(*result));
    return;
  }
  if (work.step == Work::Step::submitted) {
    work.step = Work::Step::begun;
    const auto* const submitted = envelope ? std::get_if<Submitted>(&envelope->message) : nullptr;
    if (submitted == nullptr) return;
    task.sequence = submitted->sequence;
    task.stored = now;
    task.spec.retries = submitted->retries;
    task.spec.name = submitted->name;
    detached_.work.erase(id);
    return;
  }
  const auto* const begun = envelope ? std::get_if<Begun>(&envelope->message) : nullptr;
  detached_.work.erase(id);
  if (begun != nullptr && !begun->cancelled) {
    task.adrift = true;  // its place in the queue is not known
    task.stored = now;
    task.begun = begun->life != 0;
    return;
  }
  end(now, ledger_.find(id),
      {.how = Ended::How::refused,
       .text =
           fmt::format("the engine knows no task {} of job {}. It was never submitted, was dropped, or ended "
                       "longer ago than keep_results, or the servers have lost their store",
                       id, settings_.manifest.job)});
}

void Head::answer_lost(Time now, std::uint64_t id, const Answer& answer) {
  Work& work = detached_.work[id];
  OpenTask& task = *ledger_.get(id);
  if (work.step == Work::Step::queue) {
    work.step = Work::Step::last_result;
    if (answer.how != Answer::How::done) return;
    task.stored = now;  // it waits there, or a node has it
    detached_.work.erase(id);
    return;
  }
  auto envelope = answer.how == Answer::How::done ? decode(build_, answer.bytes) : std::nullopt;
  auto* const result = envelope ? std::get_if<Result>(&envelope->message) : nullptr;
  detached_.work.erase(id);
  if (result != nullptr)
    on_result(now, std::move(*result));
  else
    lost_detached(now, id);
}

void Head::lost_detached(Time now, std::uint64_t id) {
  OpenTask& task = *ledger_.get(id);
  const bool named =
      std::ranges::any_of(roster_.peers(), [&](const auto& peer) { return peer.second->held.contains(id); });
  if (named ||
      (task.adrift && task.adopted && task.begun)) {  // a node goes on with it, or an unknown one may
    task.stored = now;
    return;
  }
  if (task.spec.retries > 0 && !task.adopted) {
    task.adrift = false;
    task.recorded = false;
    ++counts_.republished;
    publish(id, task);
    return;
  }
  end(now, ledger_.find(id),
      {.how = Ended::How::node_lost,
       .text = "the servers have lost its message and have no result of it. Whether it began is not known"});
}

// Some of those that nothing was heard of for long, in turn.
void Head::look_for_lost(Time now) {
  if (now < detached_.look) return;
  detached_.look = now + look_every;
  const auto waits = ledger_.ids([&](const OpenTask& task) {
    return (task.sequence != 0 || task.adrift) && !task.doubt && now - task.stored > settings_.lease;
  });
  if (waits.empty()) return;
  auto next = std::ranges::upper_bound(waits, detached_.looked_at);
  for (std::size_t i = 0; i < std::min(max_in_a_look, waits.size()); ++i, ++next) {
    if (next == waits.end()) next = waits.begin();
    detached_.looked_at = *next;
    if (detached_.work.contains(*next)) continue;
    detached_.work[*next] = {.step =
                                 ledger_.get(*next)->adrift ? Work::Step::last_result : Work::Step::queue};
  }
}

void Head::work_detached(Time now) {
  if (!epoch_.ready() || !engine_.connection().connected) return;
  look_for_lost(now);
  std::vector<std::uint64_t> ids;
  ids.reserve(detached_.work.size());
  for (const auto& [id, work] : detached_.work) ids.push_back(id);
  for (const std::uint64_t id : ids) ask_detached(now, id);
  detached_.records.tick(now, entered_, engine_, tickets_);
}

// What was in the old store is lost with it. A task without retries may have been begun by a node that nobody
// hears of, so it is not put into the queue again.
void Head::enter_epoch_detached(Time now) {
  const bool first = counts_.epochs == 1;
  detached_.records.restart();
  detached_.known.clear();
  for (auto& [id, work] : detached_.work) work.asked = 0;
  if (first) return;
  publisher_.restart();
  for (const auto id : ledger_.ids([](const OpenTask&) { return true; })) {
    OpenTask& task = *ledger_.get(id);
    task.sequence = 0;
    task.recorded = false;
    task.stored = now;
    task.adrift = true;
    if (task.adopted) continue;
    const bool named = std::ranges::any_of(
        roster_.peers(), [&, number = id](const auto& peer) { return peer.second->held.contains(number); });
    if (task.sent && (task.spec.retries == 0 || named)) continue;
    task.adrift = false;
    task.begun = false;
    ++counts_.republished;
    publish(id, task);
  }
}

}  // namespace kindred::internal::cluster
