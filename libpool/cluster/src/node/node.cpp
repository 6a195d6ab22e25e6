#include "node/node.hpp"

#include <algorithm>
#include <cmath>

#include <fnmatch.h>

#include <fmt/format.h>

#include "engine/epoch_key.hpp"
#include "wire/told_time.hpp"

namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_prefetched = 256;
/// How much work a node keeps ready beside the tasks that run, at least one task: it hides the way to the
/// head and back.
constexpr double prefetched_ns = 5e6;
/// Tasks that take longer are not fetched ahead: the way costs them little, and all that a node holds fails
/// with it.
constexpr double longest_prefetched_ns = 100e6;
constexpr Time capacity_every = 10ms;  ///< how often the heads are told that it has changed
constexpr Time manifest_again = 250ms;
constexpr Time default_grace = 30s;

std::string hex(std::uint64_t number) { return fmt::format("{:016x}", number); }

}  // namespace

Node::Node(NodeSettings settings, Engine& engine, NodeHost& host)
    : settings_{std::move(settings)},
      build_{build_token(settings_.build)},
      engine_{engine},
      host_{host},
      fetcher_{engine_, tickets_, hex(build_)} {
  engine_.listen({Address::Kind::node, settings_.name});
  engine_.listen({Address::Kind::heads});
  engine_.listen({Address::Kind::nodes});
}

void Node::tell(const Address& to, const Message& message) {
  engine_.tell(to, encode(build_, epoch_, message));
}

void Node::on_event(Time now, const EngineEvent& event) {
  try {
    if (const auto* const told = std::get_if<Told>(&event)) {
      on_told(now, told->bytes);
    } else if (const auto* const answer = std::get_if<Answer>(&event)) {
      on_answer(now, *answer);
    } else if (const auto* const delivery = std::get_if<Delivery>(&event)) {
      on_delivery(now, *delivery);
    }
  } catch (const DecodeError&) {  // it makes no sense: it is as if it had been lost
  }
}

void Node::on_told(Time now, const Bytes& bytes) {
  auto envelope = decode(build_, bytes);
  if (!envelope) return;
  const Message& message = envelope->message;
  if (const auto* const head = std::get_if<HeadBeat>(&message)) {
    on_head(now, *head, envelope->epoch);
  } else if (const auto* const permits = std::get_if<Permits>(&message)) {
    on_permits(now, *permits);
  } else if (auto* const assignment = std::get_if<Assignment>(&envelope->message)) {
    on_assignment(std::move(*assignment));
  } else if (const auto* const cancel = std::get_if<Cancel>(&message)) {
    on_cancel(*cancel);
  } else if (const auto* const other = std::get_if<NodeBeat>(&message)) {
    hear_node(now, *other);
    if (other->node == settings_.name && other->instance != settings_.instance) hear_namesake(now, *other);
  } else if (const auto* const reset = std::get_if<Reset>(&message)) {
    const auto job = jobs_.find(reset->job);
    // Of a detached job no head disposes.
    if (job == jobs_.end() || job->second->life != reset->life || job->second->detached) return;
    // The head has given our tasks to others, or failed them: they must not run on.
    const Time grace = job->second->grace;
    forget(job);
    if (!draining_) join(now, reset->job, grace);
  }
}

void Node::hear_namesake(Time now, const NodeBeat& other) {
  // It is about to take our name, and listens for a moment whether that is free.
  if (times_.last_beat && now - *times_.last_beat > 20ms) times_.last_beat.reset();
  // It has asked, and our answer came too late: or we have, and its answer did.
  if (other.draining || !times_.begun) return;
  const std::int64_t up = (now - *times_.begun).count();
  if (other.up_ns > up || (other.up_ns == up && other.instance < settings_.instance))
    others_.older_pid = other.pid;
}

void Node::enter(Epoch epoch) {
  if (epoch <= epoch_) return;
  epoch_ = epoch;
  fetcher_.restart();
  outbox_.restart();
  for (const auto& [id, job] : jobs_) {
    job->status_due = true;
    // What was not begun is gone with the old store, and its records with it.
    if (job->detached)
      std::erase_if(job->held, [](const auto& each) { return each.second.state == HeldState::claimed; });
    for (auto& [task, large] : job->large) {
      if (large.upload) large.upload->restart();
    }
  }
}

void Node::on_answer(Time now, const Answer& answer) {
  if (fetcher_.on_answer(now, answer)) return;
  if (answer.ticket == times_.looked) {
    if (answer.how == Answer::How::done) enter(epoch_in(answer.bytes));
    return;
  }
  std::vector<Outbox::Item> stored;
  if (outbox_.on_answer(now, answer, stored)) {
    for (const Outbox::Item& item : stored) on_stored(item);
    return;
  }
  for (const auto& [id, job] : jobs_) {
    if (job->manifest_asked == answer.ticket) {
      on_manifest(*job, answer);
      return;
    }
    if (job->detached && on_taking_answer(now, id, *job, answer)) return;
    for (auto& [task, held] : job->held) {
      if (held.blob && held.blob->on_answer(now, answer)) return;
    }
    for (auto& [task, large] : job->large) {
      if (large.upload && large.upload->on_answer(now, answer)) return;
    }
  }
}

// --- jobs

void Node::on_head(Time now, const HeadBeat& beat, Epoch epoch) {
  if (beat.closed) {
    closed(beat.job);
    return;
  }
  if (closed_jobs_.contains(beat.job)) return;
  if (beat.lease_ns > 0) learn_lease(told_duration(beat.lease_ns));
  times_.head = now;
  enter(epoch);
  const auto found = jobs_.find(beat.job);
  if (found == jobs_.end() && draining_) return;
  Job& job = found == jobs_.end() ? join(now, beat.job, told_duration(beat.grace_ns)) : *found->second;
  job.heard = now;
  job.grace = told_duration(beat.grace_ns);
  job.head_sent_at = beat.sent_at;
  job.detached = job.detached || beat.detached;
  if (job.open && job.level != beat.level) host_.set_level(job.life, beat.level);
  job.level = beat.level;
}

void Node::learn_lease(Time lease) {
  times_.lease = std::max<Time>(lease, 100ms);
  times_.beat_every = std::clamp<Time>(lease / 10, 20ms, std::min<Time>(times_.beat_every, 1000ms));
}

Node::Job& Node::join(Time now, std::uint64_t id, Time grace) {
  auto job = std::make_unique<Job>();
  job->life = settings_.random();
  job->address = {Address::Kind::job, hex(id)};
  job->heard = now;
  job->grace = grace;
  return *(jobs_[id] = std::move(job));
}

void Node::on_manifest(Job& job, const Answer& answer) {
  job.manifest_asked = 0;
  if (answer.how != Answer::How::done || job.open) return;
  const auto envelope = decode(build_, answer.bytes);
  const auto* const manifest = envelope ? std::get_if<Manifest>(&envelope->message) : nullptr;
  if (manifest == nullptr) return;
  if (!accepts(manifest->job)) {
    job.refused = true;
    for (auto& [task, held] : job.held) settle(held, Settle::later);
    job.held.clear();
    return;
  }
  job.open = true;
  job.detached = manifest->detached;
  if (job.detached && manifest->lease_ns > 0)  // a head may never be heard
    learn_lease(told_duration(manifest->lease_ns));
  job.inline_limit = std::min<std::uint64_t>(manifest->inline_limit, engine_.max_message() / 2);
  job.level = manifest->level;
  job.status_due = true;
  host_.open(job.life, *manifest);
  for (auto& [task, held] : job.held) job.claims.push_back(task);
}

bool Node::accepts(const std::string& job) const {
  const auto& wanted = settings_.accept_jobs;
  return wanted.empty() || std::ranges::any_of(wanted, [&job](const std::string& pattern) {
           return ::fnmatch(pattern.c_str(), job.c_str(), 0) == 0;
         });
}

void Node::ask_manifests(Time now) {
  for (const auto& [id, job] : jobs_) {
    if (job->open || job->refused || (job->manifest_at != Time{0} && now - job->manifest_at < manifest_again))
      continue;
    job->manifest_asked = tickets_.next();
    job->manifest_at = now;
    engine_.find(job->manifest_asked, {{StreamKind::jobs, 0}, hex(id)});
  }
}

void Node::forget(JobMap::iterator at) {
  Job& job = *at->second;
  for (auto& [task, held] : job.held) {
    if (held.state == HeldState::claimed) settle(held, Settle::back);
  }
  if (job.open) host_.close(job.life);
  outbox_.drop_below(StreamKind::results, hex(at->first));
  outbox_.drop_below(StreamKind::log, hex(at->first));
  jobs_.erase(at);
}

void Node::closed(std::uint64_t id) {
  if (const auto job = jobs_.find(id); job != jobs_.end()) {
    for (auto& [task, held] : job->second->held) settle(held, Settle::done);
    closed_jobs_[id] = job->second->life;
    forget(job);
  }
  if (const auto life = closed_jobs_.find(id); life != closed_jobs_.end())
    tell({Address::Kind::job, hex(id)}, Message{Bye{.life = life->second}});
}

Node::Job* Node::of_life(std::uint64_t life) {
  for (const auto& [id, job] : jobs_) {
    if (job->life == life) return job.get();
  }
  return nullptr;
}

// --- how much is taken

std::size_t Node::capacity() const {
  if (draining_ || outbox_.bytes() > settings_.max_unacknowledged) return 0;
  const std::size_t workers = settings_.workers;
  if (settings_.prefetch) return workers + *settings_.prefetch;
  if (mean_run_ns_ < 0 || mean_run_ns_ > longest_prefetched_ns) return workers;
  const double ahead = std::ceil(static_cast<double>(workers) * prefetched_ns / std::max(mean_run_ns_, 1.0));
  return workers + static_cast<std::size_t>(std::min(ahead, static_cast<double>(max_prefetched)));
}

std::size_t Node::held() const {
  std::size_t held = 0;
  for (const auto& [id, job] : jobs_) held += job->held.size();
  return held;
}

std::size_t Node::room() const {
  const std::size_t most = capacity();
  std::size_t held = 0, fetched = 0, bytes = 0;
  for (const auto& [id, job] : jobs_) {
    for (const auto& [task, each] : job->held) {
      if (each.state == HeldState::finished) continue;
      ++held;
      fetched += each.handle.empty() ? 0U : 1U;
      bytes += each.bytes;
    }
  }
  if (most == 0 || bytes >= settings_.max_held_bytes) return 0;
  if (held < most) return most - held;
  // A head that assigns keeps a node full. One task of another job is fetched all the same: by that this head
  // hears of the other job, and gives it its turn.
  return fetched == 0 ? 1 : 0;
}

std::size_t Node::held_beside(const Job& job) const {
  std::size_t held = 0;
  for (const auto& [id, other] : jobs_) held += other.get() == &job ? 0 : other->held.size();
  return held;
}

// A head assigns as many tasks as it has been told that there is room for.
void Node::note_capacity(Time now) {
  const std::size_t now_there = capacity();
  const bool differs = now_there >= 2 * told_capacity_ || 2 * now_there <= told_capacity_;
  if (now_there == told_capacity_ || !differs || now - times_.capacity_told < capacity_every) return;
  times_.capacity_told = now;
  told_capacity_ = now_there;
  for (const auto& [id, job] : jobs_) job->status_due = true;
}

// Of tasks that have a permit: their arguments are here, or on their way.
std::size_t Node::bytes_here() const {
  std::size_t bytes = 0;
  for (const auto& [id, job] : jobs_) {
    for (const auto& [task, each] : job->held) {
      const bool waits = each.blob && !each.blob_begun;
      if (each.state == HeldState::ready || each.state == HeldState::begun) bytes += waits ? 0 : each.bytes;
    }
  }
  return bytes;
}

// --- tasks

void Node::settle(Held& held, Settle how) {
  // Of another epoch never: the number might mean another task there.
  if (held.settled || held.epoch != epoch_ || held.handle.empty()) return;
  engine_.settle(0, held.handle, how);
  held.settled = true;
}

void Node::on_delivery(Time now, const Delivery& delivery) {
  fetcher_.on_delivery();
  if (delivery.epoch != epoch_) return;
  auto envelope = decode(build_, delivery.bytes);
  auto* const grant = envelope ? std::get_if<Grant>(&envelope->message) : nullptr;
  if (grant == nullptr) {  // of another build, which no queue of ours should hold: it is left to its own
    engine_.settle(0, delivery.handle, Settle::later);
    return;
  }
  if (closed_jobs_.contains(grant->job)) {
    engine_.settle(0, delivery.handle, Settle::done);
    return;
  }
  auto found = jobs_.find(grant->job);
  if (found == jobs_.end() && !draining_) {
    join(now, grant->job, default_grace);
    found = jobs_.find(grant->job);
  }
  if (found == jobs_.end() || !found->second->broken.empty() || capacity() == 0) {
    engine_.settle(0, delivery.handle, draining_ ? Settle::back : Settle::later);
    return;
  }
  Job& job = *found->second;
  if (job.refused) {  // for other nodes
    engine_.settle(0, delivery.handle, Settle::later);
    fetcher_.pause(now);
    return;
  }
  if (const auto known = job.held.find(grant->task); known != job.held.end()) {
    if (known->second.returned) {  // given back, and published anew since: it comes again later
      engine_.settle(0, delivery.handle, Settle::later);
      return;
    }
    // It was given out again, because a sign of life was lost: we have it.
    known->second.handle = delivery.handle;
    known->second.epoch = delivery.epoch;
    if (known->second.settled) engine_.settle(0, delivery.handle, Settle::done);
    return;
  }
  if (room() == 0) {
    engine_.settle(0, delivery.handle, Settle::back);
    return;
  }
  const std::uint64_t task = grant->task;
  Held held;
  held.grant = std::move(*grant);
  held.handle = delivery.handle;
  held.epoch = delivery.epoch;
  held.claim = ++job.last_claim;
  held.count = delivery.count;
  held.bytes =
      held.grant.blob.id != 0 ? static_cast<std::size_t>(held.grant.blob.size) : held.grant.arguments.size();
  job.held.emplace(task, std::move(held));
  if (job.open) job.claims.push_back(task);
  for (const auto& [id, other] : jobs_) {
    if (other.get() != &job && !other->told_of_others) other->status_due = true;
  }
}

void Node::claim(Job& job) {
  if (job.detached) job.claims.clear();
  if (job.claims.empty()) return;
  Claim claim{.life = job.life, .node = settings_.name, .tasks = {}};
  for (const std::uint64_t task : job.claims) {
    const auto found = job.held.find(task);
    if (found != job.held.end() && found->second.state == HeldState::claimed)
      claim.tasks.push_back({task, found->second.claim, HeldState::claimed});
  }
  job.claims.clear();
  // The head must know this life first.
  if (job.status_due || claim.tasks.empty()) return;
  tell(job.address, Message{std::move(claim)});
}

void Node::on_permits(Time, const Permits& permits) {
  const auto found = jobs_.find(permits.job);
  if (found == jobs_.end() || found->second->life != permits.life) return;
  Job& job = *found->second;
  job.permits_seen = std::max(job.permits_seen, permits.serial);
  for (const Permit& permit : permits.permits) on_permit(permits.job, job, permit);
}

void Node::on_assignment(Assignment assignment) {
  const auto found = jobs_.find(assignment.job);
  if (found == jobs_.end() || found->second->life != assignment.life || !found->second->open) return;
  Job& job = *found->second;
  if (assignment.serial != job.assignments_seen + 1) {
    // One before it is missing: the head is told at once, and sends it and this one again.
    if (assignment.serial > job.assignments_seen) job.status_due = true;
    return;
  }
  ++job.assignments_seen;
  const bool full = room() == 0 && held_beside(job) != 0;
  for (Assigned& assigned : assignment.tasks) {
    const std::uint64_t task = assigned.grant.task;
    if (assigned.claim < assigned_claims || job.held.contains(task)) continue;
    if (full || draining_ || !job.broken.empty()) {
      give_back(found->first, job, task, assigned.run, assigned.claim);
      continue;
    }
    Held held;
    held.grant = std::move(assigned.grant);
    held.grant.job = found->first;
    held.grant.run = assigned.run;
    held.grant.attempt = assigned.attempt;
    held.grant.retries = assigned.retries;
    held.epoch = epoch_;
    held.claim = assigned.claim;
    held.settled = true;  // there is nothing in the queue
    held.state = HeldState::ready;
    held.bytes = held.grant.arguments.size();
    begin(job, job.held.emplace(task, std::move(held)).first->second);
  }
}

void Node::on_permit(std::uint64_t id, Job& job, const Permit& permit) {
  const auto found = job.held.find(permit.task);
  if (found == job.held.end() || found->second.claim != permit.claim) {
    // Of a fetch that is over. Where its result is stored already, the engine drops this one by its id.
    if (permit.verdict == Verdict::run) give_back(id, job, permit.task, permit.run, permit.claim);
    return;
  }
  Held& held = found->second;
  if (permit.verdict == Verdict::revoke) {
    if (held.state == HeldState::finished) return;
    if (held.state != HeldState::claimed) (void)host_.cancel(job.life, permit.task, Running::kill);
    settle(held, Settle::done);
    job.held.erase(found);
    return;
  }
  if (held.state != HeldState::claimed) return;
  if (permit.verdict == Verdict::drop) {
    settle(held, Settle::done);
    job.held.erase(found);
    return;
  }
  held.state = HeldState::ready;
  held.grant.run = permit.run;
  held.grant.attempt = permit.attempt;
  held.grant.retries = permit.retries;
  if (draining_ || !job.broken.empty()) {
    give_back(id, job, permit.task, permit.run, permit.claim);
    return;
  }
  // Order: out of the queue first, then it begins.
  if (held.grant.at_most_once) settle(held, Settle::done);
  begin(job, held);
}

void Node::begin(Job& job, Held& held) {
  if (held.grant.blob.id != 0)
    held.blob = std::make_unique<BlobFetch>(hex(held.grant.job), held.grant.blob);
  else
    start(job, held);
}

void Node::start(Job& job, Held& held) {
  host_.start(job.life, held.grant);
  if (!held.grant.retry_exceptions) held.grant.arguments = {};
}

void Node::fetch_blobs(Time now) {
  for (const auto& [id, job] : jobs_) {
    std::vector<std::uint64_t> failed;
    for (auto& [task, held] : job->held) {
      if (!held.blob) continue;
      if (!held.blob_begun) {  // large arguments wait for their turn where much is here already
        const std::size_t here = bytes_here();
        if (here != 0 && here + held.bytes > settings_.max_held_bytes) continue;
        held.blob_begun = true;
      }
      held.blob->tick(now, epoch_, engine_, tickets_);
      if (held.blob->state() == BlobFetch::State::complete) {
        held.grant.arguments = held.blob->take();
        held.blob.reset();
        start(*job, held);
      } else if (held.blob->state() == BlobFetch::State::failed) {
        failed.push_back(task);
      }
    }
    for (const std::uint64_t task : failed) {
      Held& held = job->held.at(task);
      if (!job->detached) {
        give_back(id, *job, task, held.grant.run, held.claim);
        continue;
      }
      Result result;  // nobody else has its bytes
      result.task = task;
      result.run = held.grant.run;
      result.attempt = held.grant.attempt;
      result.kind = EndKind::refused;
      result.text = "its arguments were lost with the servers' store: " + held.blob->why();
      held.blob.reset();
      held.state = HeldState::finished;
      store(id, *job, std::move(result));
    }
  }
}

void Node::on_cancel(const Cancel& cancel) {
  const auto at = jobs_.find(cancel.job);
  if (at == jobs_.end() || at->second->life != cancel.life) return;
  Job& job = *at->second;
  CancelReply reply{.life = job.life, .task = cancel.task, .answer = CancelAnswer::unknown};
  const auto found = job.held.find(cancel.task);
  if (found != job.held.end()) {
    Held& held = found->second;
    const bool waits = held.state == HeldState::claimed || held.blob;
    reply.answer = waits ? CancelAnswer::dropped : host_.cancel(job.life, cancel.task, cancel.how);
    if (reply.answer == CancelAnswer::dropped && job.detached) {
      if (held.state == HeldState::claimed) {
        reply.answer = CancelAnswer::unknown;  // it is asked again when it is known who begins it
      } else {
        Result result;
        result.task = cancel.task;
        result.run = held.grant.run;
        result.attempt = held.grant.attempt;
        result.kind = EndKind::cancelled;
        result.text = "before it began";
        held.blob.reset();
        held.state = HeldState::finished;
        store(at->first, job, std::move(result));
      }
    } else if (reply.answer == CancelAnswer::dropped) {
      settle(held, Settle::done);
      job.held.erase(found);
    }
  }
  tell(job.address, Message{reply});
}

// --- what the host says

void Node::store(std::uint64_t id, Job& job, Result result) {
  result.job = id;
  result.life = job.life;
  result.node = settings_.name;
  result.log_up_to = job.log_next;
  const std::uint64_t task = result.task;
  if (result.bytes.size() > job.inline_limit) {
    LargeResult& large = job.large[task];
    large.bytes = std::move(result.bytes);
    result.bytes = {};
    large.result = std::move(result);
    large.result.blob = blob_ref(2 * task + 1, large.bytes);
    large.upload =
        std::make_unique<BlobUpload>(hex(id), large.result.blob, large.bytes, blob_part_bytes(engine_));
    return;
  }
  Outbox::Item item;
  item.kind = StreamKind::results;
  item.path = fmt::format("{}.{}", hex(id), task);
  item.id = fmt::format("r.{}.{}", item.path, result.run);
  item.cookie = task;
  item.unless_there = job.detached;  // the first result of a task is its result
  item.bytes = encode(build_, epoch_, Message{std::move(result)});
  outbox_.add(std::move(item));
}

void Node::store_large(Time now) {
  for (const auto& [id, job] : jobs_) {
    for (auto large = job->large.begin(); large != job->large.end();) {
      large->second.upload->tick(now, epoch_, engine_, tickets_);
      if (!large->second.upload->done()) {
        ++large;
        continue;
      }
      Result result = std::move(large->second.result);
      large = job->large.erase(large);
      store(id, *job, std::move(result));
    }
  }
}

void Node::on_stored(const Outbox::Item& item) {
  if (item.kind != StreamKind::results) return;
  for (const auto& [id, job] : jobs_) {
    if (!item.path.starts_with(job->address.name + ".")) continue;
    const auto found = job->held.find(item.cookie);
    if (found == job->held.end() || found->second.state != HeldState::finished) return;
    settle(found->second, Settle::done);
    job->held.erase(found);
    return;
  }
}

void Node::give_back(std::uint64_t id, Job& job, std::uint64_t task, std::uint32_t run, std::uint64_t claim) {
  if (const auto found = job.held.find(task); found != job.held.end() && found->second.claim == claim) {
    if (job.detached) {
      take_back(found->second);
      return;
    }
    found->second.state = HeldState::finished;
    found->second.returned = true;
    found->second.blob.reset();
  }
  Result result;
  result.task = task;
  result.run = run;
  result.kind = EndKind::returned;
  store(id, job, std::move(result));
}

void Node::on_ended(Time, std::uint64_t life, Result result) {
  for (const auto& [id, job] : jobs_) {
    if (job->life != life) continue;
    const auto found = job->held.find(result.task);
    if (found == job->held.end() || found->second.state == HeldState::finished) return;
    Held& held = found->second;
    Grant& grant = held.grant;
    if (result.kind == EndKind::threw && grant.retry_exceptions && grant.retries > 0 && !draining_) {
      --grant.retries;
      ++grant.attempt;
      host_.start(life, grant);
      return;
    }
    if (result.ran_ns > 0) {
      const auto ran = static_cast<double>(result.ran_ns);
      mean_run_ns_ = mean_run_ns_ < 0 ? ran : 0.9 * mean_run_ns_ + 0.1 * ran;
    }
    held.state = HeldState::finished;
    grant.arguments = {};
    result.run = grant.run;
    store(id, *job, std::move(result));
    return;
  }
}

void Node::on_begun(std::uint64_t life, const std::vector<std::uint64_t>& tasks) {
  Job* const job = of_life(life);
  if (job == nullptr) return;
  for (const std::uint64_t task : tasks) {
    const auto found = job->held.find(task);
    if (found == job->held.end() || found->second.state != HeldState::ready) continue;
    found->second.state = HeldState::begun;
    job->status_due = true;
  }
}

void Node::on_log(std::uint64_t life, LogBatch batch) {
  Job* const job = of_life(life);
  if (job == nullptr) return;
  batch.lost += std::exchange(job->lost_records, 0);
  if (outbox_.bytes() > settings_.max_log_bytes) {
    job->lost_records = batch.lost + batch.records.size();
    return;
  }
  batch.life = life;
  batch.node = settings_.name;
  batch.from = job->log_next;
  job->log_next += batch.lost + batch.records.size();
  Outbox::Item item;
  item.kind = StreamKind::log;
  item.path = job->address.name + "." + hex(life);
  item.id = fmt::format("l.{}.{}", hex(life), batch.from);
  item.bytes = encode(build_, epoch_, Message{std::move(batch)});
  outbox_.add(std::move(item));
}

void Node::on_broken(std::uint64_t life, const std::string& why, bool may_have_begun) {
  const auto at = std::ranges::find_if(jobs_, [life](const auto& each) { return each.second->life == life; });
  if (at == jobs_.end() || !at->second->broken.empty()) return;
  Job& job = *at->second;
  job.broken = why.empty() ? "its pool broke" : why;
  std::vector<std::uint64_t> tasks;
  tasks.reserve(job.held.size());
  for (const auto& [task, held] : job.held) tasks.push_back(task);
  std::ranges::sort(tasks);
  for (const std::uint64_t task : tasks) {
    Held& held = job.held.at(task);
    if (held.state == HeldState::finished) continue;
    if (held.state == HeldState::claimed && job.detached) {
      if (give_up_taking(held, Settle::later)) job.held.erase(task);
    } else if (held.state == HeldState::claimed) {
      settle(held, Settle::later);
      job.held.erase(task);
    } else if (may_have_begun && held.grant.at_most_once) {
      Result result;
      result.task = task;
      result.run = held.grant.run;
      result.kind = EndKind::lost;
      result.exit_kind = static_cast<std::uint8_t>(ExitReason::Kind::lost);
      result.attempt = held.grant.attempt;
      result.text = "The node's pool broke while it had the task: " + why;
      held.state = HeldState::finished;
      store(at->first, job, std::move(result));
    } else {
      give_back(at->first, job, task, held.grant.run, held.claim);
    }
  }
  job.status_due = true;
}

// --- the end of a node

void Node::drain() {
  if (draining_) return;
  draining_ = true;
  for (const auto& [id, job] : jobs_) {
    std::vector<std::uint64_t> tasks;
    for (const auto& [task, held] : job->held) tasks.push_back(task);
    std::ranges::sort(tasks);
    for (const std::uint64_t task : tasks) {
      Held& held = job->held.at(task);
      if (held.state == HeldState::claimed && job->detached) {
        if (give_up_taking(held, Settle::back)) job->held.erase(task);
      } else if (held.state == HeldState::claimed) {
        settle(held, Settle::back);
        job->held.erase(task);
      } else if (held.state == HeldState::ready &&
                 (held.blob || host_.cancel(job->life, task, Running::leave) == CancelAnswer::dropped)) {
        give_back(id, *job, task, held.grant.run, held.claim);
      }
    }
    job->status_due = true;
  }
}

bool Node::drained() const {
  return draining_ && held() == 0 && outbox_.empty() &&
         std::ranges::all_of(jobs_, [](const auto& job) { return job.second->large.empty(); });
}

void Node::leave() {
  draining_ = true;
  for (const auto& [id, job] : jobs_)
    tell(job->address, Message{Bye{job->life, job->permits_seen, job->assignments_seen}});
  engine_.purge(0, {{StreamKind::nodes, 0}, settings_.name}, 0);
  while (!jobs_.empty()) forget(jobs_.begin());
}

// --- time

NodeBeat Node::beat_message(Time now) const {
  NodeBeat beat;
  beat.up_ns = times_.begun ? (now - *times_.begun).count() : 0;
  beat.node = settings_.name;
  beat.build = settings_.build;
  beat.program = settings_.program;
  beat.instance = settings_.instance;
  beat.pid = settings_.pid;
  beat.workers = settings_.workers;
  beat.held = static_cast<std::uint32_t>(held());
  beat.draining = draining_;
  return beat;
}

void Node::beat(Time now) {
  if (times_.last_beat && now - *times_.last_beat < times_.beat_every) return;
  times_.last_beat = now;
  const Bytes bytes = encode(build_, epoch_, Message{beat_message(now)});
  engine_.tell({Address::Kind::nodes}, bytes);
  if (epoch_ != 0) engine_.put(0, {{StreamKind::nodes, 0}, settings_.name}, {}, bytes, {});
  for (const auto& [id, job] : jobs_) job->status_due = true;
}

SignsOfLife Node::signs_of_life(Time now) const {
  SignsOfLife signs;
  signs.packets.emplace_back(Address{Address::Kind::nodes},
                             encode(build_, epoch_, Message{beat_message(now)}));
  for (const auto& [id, job] : jobs_) {
    if (job->open)
      signs.packets.emplace_back(job->address, encode(build_, epoch_, Message{Alive{job->life}}));
    for (const auto& [task, held] : job->held) {
      if (!held.settled && held.epoch == epoch_) signs.handles.push_back(held.handle);
    }
  }
  return signs;
}

void Node::tell_status(Time now, Job& job) {
  if (!job.status_due || !job.open) return;  // whether it works for this job is in the manifest
  job.status_due = false;
  Status status;
  status.life = job.life;
  status.node = settings_.name;
  status.pid = settings_.pid;
  status.workers = settings_.workers;
  status.capacity = static_cast<std::uint32_t>(capacity());
  status.permits_seen = job.permits_seen;
  status.assignments_seen = job.assignments_seen;
  status.held_for_others = static_cast<std::uint32_t>(held_beside(job));
  job.told_of_others = status.held_for_others != 0;
  status.draining = draining_;
  status.broken = job.broken;
  status.sent_at = now.count() + wall_offset_;
  status.echo = job.head_sent_at;
  status.echo_age = job.head_sent_at == 0 ? 0 : (now - job.heard).count();
  for (const auto& [task, held] : job.held) {
    if (held.state != HeldState::claimed || job.open) status.held.push_back({task, held.claim, held.state});
  }
  job.claims.clear();  // the status names them
  tell(job.address, Message{std::move(status)});
}

void Node::extend(Time now) {
  if (now - times_.extended < times_.lease / 3) return;
  times_.extended = now;
  for (const auto& [id, job] : jobs_) {
    for (const auto& [task, held] : job->held) {
      if (!held.settled && held.epoch == epoch_) engine_.extend(held.handle);
    }
  }
}

// Their head is gone: nobody wants these results, and nobody will permit what is left in the queue.
void Node::forget_orphans(Time now) {
  std::vector<std::uint64_t> orphaned;
  for (const auto& [id, job] : jobs_) {
    const bool idle = job->held.empty() && job->large.empty() && outbox_.empty();
    if (job->grace > Time{0} && now - job->heard > job->grace && (!job->detached || idle))
      orphaned.push_back(id);
  }
  for (const auto id : orphaned) {
    const auto job = jobs_.find(id);
    for (auto& [task, held] : job->second->held) settle(held, Settle::done);
    forget(job);
  }
}

void Node::tick(Time now) {
  if (!times_.begun) times_.begun = now;
  engine_.tick();
  const EngineState connection = engine_.connection();
  if (std::exchange(times_.outages, connection.outages) != connection.outages) fetcher_.restart();
  beat(now);
  forget_orphans(now);
  ask_manifests(now);
  find_epoch(now);
  note_capacity(now);
  for (const auto& [id, job] : jobs_) {
    tell_status(now, *job);
    claim(*job);
  }
  if (epoch_ == 0 || !connection.connected) return;
  extend(now);
  take_detached(now);
  fetch_blobs(now);
  store_large(now);
  outbox_.tick(now, epoch_, engine_, tickets_);
  fetcher_.tick(now, epoch_, room());
}

Time Node::next_due(Time now) const {
  Time due = times_.last_beat ? *times_.last_beat + times_.beat_every : now;
  if (epoch_ != 0 && engine_.connection().connected)
    due = std::min({due, times_.extended + times_.lease / 3, outbox_.next_due(now),
                    std::max(now + 1ms, fetcher_.next_due(room()))});
  for (const auto& [id, job] : jobs_) {
    if (job->refused) continue;
    if (!job->open) due = std::min(due, std::max(now + 1ms, job->manifest_at + manifest_again));
    if ((job->open && job->status_due) || !job->claims.empty()) due = now;
    if (!job->large.empty()) due = std::min(due, now + 100ms);
    if (job->grace > Time{0} && !job->detached) due = std::min(due, job->heard + job->grace);
    if (epoch_ != 0 && engine_.connection().connected) due = std::min(due, taking_due(now, *job));
  }
  return due;
}

}  // namespace kindred::internal::cluster
