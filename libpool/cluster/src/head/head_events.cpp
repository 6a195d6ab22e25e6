#include <algorithm>
#include <unordered_map>

#include <fmt/format.h>

#include "head/head.hpp"
#include "wire/told_time.hpp"

// What comes to a head from its nodes and its engine.
namespace kindred::internal::cluster {
namespace {

constexpr unsigned statuses_without = 3;  ///< of a node, after which it does not have a task any more

Permit permit_for(std::uint64_t id, const OpenTask& task) {
  return {.task = id,
          .claim = task.claim,
          .verdict = Verdict::run,
          .run = task.run,
          .attempt = task.deaths + 1,
          .retries = task.spec.retries - static_cast<std::int32_t>(task.deaths)};
}

}  // namespace

void Head::on_event(Time now, const EngineEvent& event) {
  try {
    if (const auto* const told = std::get_if<Told>(&event)) {
      on_told(now, told->bytes);
    } else if (const auto* const answer = std::get_if<Answer>(&event)) {
      on_answer(now, *answer);
    } else if (const auto* const entry = std::get_if<StreamEntry>(&event)) {
      on_entry(now, *entry);
    }
  } catch (const DecodeError&) {  // it makes no sense: it is as if it had been lost
  }
}

void Head::on_told(Time now, const Bytes& bytes) {
  auto envelope = decode(build_, bytes);
  if (!envelope) return;
  Message& message = envelope->message;
  if (auto* const node = std::get_if<NodeBeat>(&message)) {
    roster_.sight(now, std::move(*node));
  } else if (const auto* const head = std::get_if<HeadBeat>(&message)) {
    if (head->job == settings_.job && head->serial <= times_.beats) {
      // The head was away for longer than that: the nodes have given this job up, and have taken its tasks
      // out of the queue, unless it is detached.
      if (roster_.unheard(now) > settings_.head_grace && !settings_.detached && epoch_.ready())
        publish_pending_anew();
      roster_.on_own_beat(now);
    }
    epoch_.hear_of(envelope->epoch);
  } else if (auto* const status = std::get_if<Status>(&message)) {
    on_status(now, std::move(*status));
  } else if (const auto* const claim = std::get_if<Claim>(&message)) {
    if (Peer* const peer = roster_.find(claim->life); peer != nullptr && !closed_) {
      for (const HeldTask& task : claim->tasks) on_claim(now, *peer, task);
    }
  } else if (const auto* const reply = std::get_if<CancelReply>(&message)) {
    on_cancel_reply(now, *reply);
  } else if (const auto* const alive = std::get_if<Alive>(&message)) {
    if (Peer* const peer = roster_.find(alive->life)) peer->heard = now;
  } else if (const auto* const bye = std::get_if<Bye>(&message)) {
    on_bye(now, *bye);
  }
}

void Head::on_answer(Time now, const Answer& answer) {
  if (epoch_.on_answer(now, answer)) return;
  std::vector<Publisher::Stored> stored;
  bool no_stream = false;
  if (publisher_.on_answer(now, answer, stored, no_stream)) {
    if (no_stream) epoch_.suspect();
    for (const auto& [id, sequence] : stored) {
      ++counts_.confirmed;
      epoch_.confirm(sequence);
      feeds_.stored = std::max(feeds_.stored, sequence);
      OpenTask* const task = ledger_.get(id);
      if (task == nullptr) {
        engine_.erase(0, {StreamKind::tasks, entered_}, sequence);  // it was cancelled meanwhile
      } else if (task->sequence == 0) {
        task->sequence = sequence;
        task->stored = now;
        if (settings_.detached) record(id, *task);
      }
    }
    return;
  }
  for (auto& [task, large] : large_) {
    if (large.fetch.on_answer(now, answer)) return;
  }
  if (settings_.detached && on_detached_answer(now, answer)) return;
  if (leftovers_.sweep.on_answer(answer) || leftovers_.former.on_answer(answer)) return;
  if (const auto task = doubts_.of(answer.ticket)) answer_doubt(now, *task, answer);
}

void Head::answer_doubt(Time now, std::uint64_t id, const Answer& answer) {
  OpenTask& task = *ledger_.get(id);
  if (answer.how == Answer::How::missing && leftovers_.former.is_read() && !task.doubt->former) {
    task.doubt->former = true;
    doubts_.ask_again(id);
    ask_doubts(now);
    return;
  }
  if (answer.how == Answer::How::missing) conclude(now, id);
  if (answer.how != Answer::How::done) return;
  const std::uint32_t run = task.run;
  const Epoch epoch = task.doubt->former ? leftovers_.former.epoch() : entered_;
  auto envelope = decode(build_, answer.bytes);
  auto* const result = envelope ? std::get_if<Result>(&envelope->message) : nullptr;
  if (result != nullptr && result->job == settings_.job && result->task == id && result->run == run)
    on_result(now, std::move(*result), epoch);
  else
    conclude(now, id);
}

void Head::on_entry(Time now, const StreamEntry& entry) {
  const bool former = leftovers_.former.has_feed(entry.feed);
  if (entry.feed != feeds_.results && entry.feed != feeds_.log && !former) return;
  if (entry.feed == feeds_.results) feeds_.taken = entry.sequence;
  auto envelope = decode(build_, entry.bytes);
  if (!envelope) return;
  if (auto* const result = std::get_if<Result>(&envelope->message)) {
    if (result->job == settings_.job)
      on_result(now, std::move(*result), former ? leftovers_.former.epoch() : entered_);
  } else if (former && settings_.detached) {  // its records are of another epoch's tasks
    return;
  } else if (const auto* const begun = std::get_if<Begun>(&envelope->message)) {
    if (begun->job == settings_.job) on_begun(now, *begun);
  } else if (const auto* const submitted = std::get_if<Submitted>(&envelope->message)) {
    if (submitted->job == settings_.job) on_submitted(*submitted);
  } else if (auto* const batch = std::get_if<LogBatch>(&envelope->message)) {
    on_batch(std::move(*batch));
  }
}

// --- nodes

void Head::on_status(Time now, Status status) {
  if (closed_) return;
  Peer* peer = roster_.find(status.life);
  const bool joins = peer == nullptr;
  if (joins) {
    peer = roster_.greet(now, status);
    if (peer == nullptr) {
      tell({Address::Kind::node, status.node}, Message{Reset{settings_.job, status.life}});
      return;
    }
  }
  const bool was_broken = !peer->status.broken.empty();
  const std::vector<HeldTask> held = std::move(status.held);
  if (joins) {
    if (const auto before = roster_.earlier_life(status))
      drop_peer(now, *before, NodeNews::What::lost, "it was started anew");
  }
  const std::string broken = status.broken;
  roster_.update(now, *peer, std::move(status), now.count() + wall_offset_);
  if (joins) greeted(now, *peer);
  if (!broken.empty() && !was_broken) {
    out_.news.push_back({NodeNews::What::broken, peer->status.node, broken});
    if (roster_.working() == 0) {
      break_job(now, fmt::format("no node is left that can run this job: node {} gave it up because: {}",
                                 peer->status.node, broken));
      return;
    }
  }
  repeat_assignments(now, *peer);
  look_at_held(now, *peer, held);
}

void Head::greeted(Time, Peer& peer) {
  out_.news.push_back({NodeNews::What::joined, peer.status.node,
                       fmt::format("pid {}, {} workers", peer.status.pid, peer.status.workers)});
}

void Head::look_at_held(Time now, Peer& peer, const std::vector<HeldTask>& held) {
  if (settings_.detached) {  // only to be told, and to know after a loss of the store which tasks go on
    peer.held.clear();
    for (const HeldTask& each : held) {
      if (each.state != HeldState::claimed) peer.held.insert(each.task);
    }
    return;
  }
  std::unordered_map<std::uint64_t, HeldTask> named;
  for (const HeldTask& each : held) {
    named[each.task] = each;
    if (each.state == HeldState::claimed) {
      on_claim(now, peer, each);
      continue;
    }
    const OpenTask* const task = ledger_.get(each.task);
    if (task != nullptr && task->peer == &peer && task->claim == each.claim) continue;
    // It was given to another node, or has ended: of what this node does nobody wants the result.
    if (each.state != HeldState::finished)
      peer.due.push_back({.task = each.task, .claim = each.claim, .verdict = Verdict::revoke});
  }
  for (const std::uint64_t id : std::vector<std::uint64_t>(peer.held.begin(), peer.held.end())) {
    OpenTask& task = *ledger_.get(id);
    if (const auto found = named.find(id); found != named.end() && found->second.claim == task.claim) {
      task.unseen = 0;
      task.begun =
          task.begun || found->second.state == HeldState::begun || found->second.state == HeldState::finished;
      continue;
    }
    // Until the node says that the assignment has come, it is sent again and again.
    if (task.assigned && peer.status.assignments_seen < task.permit_serial) continue;
    if (++task.unseen < statuses_without) continue;
    if (!task.assigned &&
        peer.status.permits_seen < task.permit_serial) {  // the permit was lost, and perhaps the task with it
      task.unseen = 0;
      task.permit_serial = peer.serial + 1;
      peer.due.push_back(permit_for(id, task));
      continue;
    }
    doubt(now, id, task, peer.status.node, "it does not have the task any more, and stored no result of it");
  }
}

void Head::on_claim(Time now, Peer& peer, const HeldTask& claimed) {
  const std::uint64_t id = claimed.task;
  times_.last_claim = now;
  times_.put_again = false;
  OpenTask* const task = ledger_.get(id);
  Permit permit{.task = id, .claim = claimed.claim, .verdict = Verdict::drop};
  if (task != nullptr && task->peer == &peer && task->claim == claimed.claim) {
    permit.verdict = Verdict::run;  // the permit was lost
  } else if (task != nullptr && task->peer == nullptr && !task->doubt && peer.works()) {
    permit.verdict = Verdict::run;
    ledger_.stop_waiting(*task);
    hold(id, *task, peer, claimed.claim);
    task->permit_serial = peer.serial + 1;
  } else if (task != nullptr && task->peer == nullptr) {
    return;  // it is being found out what became of it: the node asks again
  } else {
    ++counts_.redelivered;
  }
  peer.due.push_back(permit.verdict == Verdict::run ? permit_for(id, *task) : permit);
}

void Head::tell_permits() {
  for (const auto& [life, peer] : roster_.peers()) {
    if (peer->due.empty()) continue;
    Permits permits{.job = settings_.job, .life = life, .serial = ++peer->serial, .permits = {}};
    permits.permits.swap(peer->due);
    tell({Address::Kind::node, peer->status.node}, Message{std::move(permits)});
  }
}

void Head::on_cancel_reply(Time now, const CancelReply& reply) {
  if (settings_.detached) return on_detached_reply(reply);
  const auto found = ledger_.find(reply.task);
  if (found == ledger_.tasks().end() || found->second.peer == nullptr ||
      found->second.peer->life != reply.life)
    return;
  OpenTask& task = found->second;
  task.answer = reply.answer;
  if (task.cancelling != Running::kill) cancelling_.erase(reply.task);
  if (reply.answer != CancelAnswer::dropped) {
    task.begun = task.begun || reply.answer == CancelAnswer::begun;
    return;
  }
  if (task.queue_timed_out && !task.cancelling) {
    end(now, found, {.how = Ended::How::queue_timeout});
  } else {
    end_cancelled(now, found, "before it began");
  }
}

void Head::on_bye(Time now, const Bye& bye) {
  if (closed_) {
    roster_.remove(bye.life);
    return;
  }
  // What was on its way to the node when it ended cannot have begun there.
  if (Peer* const peer = roster_.find(bye.life); peer != nullptr && !settings_.detached) {
    for (const std::uint64_t id : std::vector<std::uint64_t>(peer->held.begin(), peer->held.end())) {
      OpenTask& task = *ledger_.get(id);
      if (task.permit_serial > (task.assigned ? bye.assignments_seen : bye.permits_seen))
        on_returned(id, task);
    }
  }
  drop_peer(now, bye.life, NodeNews::What::left, "it was told to end");
}

// --- results

void Head::on_result(Time now, Result result, Epoch stored_in) {
  if (settings_.detached) note(result.task, Known::ended);
  const auto found = ledger_.find(result.task);
  if (found == ledger_.tasks().end()) {
    ++counts_.duplicates;
    return;
  }
  OpenTask& task = found->second;
  const bool current = settings_.detached || (result.run == task.run && (task.peer != nullptr || task.doubt));
  if (result.kind == EndKind::returned) {
    if (current) on_returned(result.task, task);
    return;
  }
  // Of an earlier run, whose node was given up, only a value counts: it is as good as another.
  if (!current && result.kind != EndKind::value) {
    ++counts_.duplicates;
    return;
  }
  if (result.kind == EndKind::node_lost) {
    task.lost_nodes = result.nodes;
    task.deaths = static_cast<std::uint32_t>(result.nodes.size());
    end(now, found,
        {.how = Ended::How::node_lost,
         .node = result.nodes.empty() ? std::string{} : result.nodes.back(),
         .text = result.text});
    return;
  }
  if (result.blob.id != 0 && result.bytes.empty()) {
    // The node has let the task go: if the result's bytes cannot be read, the task counts as lost there.
    doubt(now, result.task, task, result.node, "its result was lost with the engine's store");
    const std::uint64_t id = result.task;
    BlobFetch fetch{job_key(), result.blob};
    large_.insert_or_assign(
        id, LargeResult{std::move(result), std::move(fetch), stored_in != 0 ? stored_in : entered_});
    fetch_blobs(now);
    return;
  }
  Ended ended;
  ended.how = Ended::How::result;
  ended.node = result.node;
  ended.attempts = result.attempt;
  if (result.attempt > task.deaths + 1) counts_.retried += result.attempt - task.deaths - 1;
  ended.result = std::move(result);
  end(now, found, std::move(ended));
}

void Head::fetch_blobs(Time now) {
  std::vector<Result> complete;
  for (auto each = large_.begin(); each != large_.end();) {
    auto& [result, fetch, epoch] = each->second;
    if (epoch_.ready()) fetch.tick(now, epoch, engine_, tickets_);
    if (ledger_.get(each->first) != nullptr && fetch.state() == BlobFetch::State::fetching) {
      ++each;
      continue;
    }
    const FormerEpoch& former = leftovers_.former;
    if (fetch.state() == BlobFetch::State::failed && former.is_read() && epoch != former.epoch()) {
      // The epoch changed between its bytes and its result.
      epoch = former.epoch();
      fetch = BlobFetch{job_key(), result.blob};
      ++each;
      continue;
    }
    if (fetch.state() == BlobFetch::State::failed) {  // its store was lost after the node had it confirmed
      const std::uint64_t id = each->first;
      each = large_.erase(each);
      conclude(now, id);
      continue;
    }
    result.bytes = fetch.take();
    result.blob = {};
    complete.push_back(std::move(result));
    each = large_.erase(each);
  }
  for (Result& result : complete) on_result(now, std::move(result));
}

void Head::on_returned(std::uint64_t id, OpenTask& task) {
  release(id, task);
  ++counts_.returned;
  publish(id, task);
}

void Head::on_batch(LogBatch batch) {
  if (!log_.take(batch)) return;
  std::int64_t error = 0;
  if (const Peer* const peer = roster_.find(batch.life)) {
    error = peer->rtt.count() / 2;
    for (WireRecord& record : batch.records)
      record.time_ns = told_difference(record.time_ns, peer->offset.count());
  }
  std::string node = batch.node;
  out_.records.push_back({std::move(node), std::move(batch), error});
}

}  // namespace kindred::internal::cluster
