#include "head/head.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr Time cancel_again = 250ms;
constexpr Time look_every = 500ms;
constexpr Time purge_every = 5s;

double seconds(Time time) { return std::chrono::duration<double>(time).count(); }
std::string hex(std::uint64_t number) { return fmt::format("{:016x}", number); }
Time beat_interval(Time lease) { return std::clamp<Time>(lease / 10, 20ms, 1000ms); }

EpochKeeper::Settings keeper_settings(const HeadSettings& settings, BuildToken build) {
  EpochKeeper::Settings made;
  made.build = hex(build);
  made.job = hex(settings.job);
  made.manifest = encode(build, 0, Message{settings.manifest});
  made.lease = settings.lease;
  made.keep_results = settings.keep_results;
  made.node_key_age = 3 * beat_interval(settings.lease) + 1s;
  made.replicas = settings.replicas;
  made.in_memory = settings.in_memory;
  made.max_queue_bytes = settings.max_queue_bytes;
  made.insist = settings.detached;
  return made;
}

}  // namespace

Head::Head(HeadSettings settings, Engine& engine)
    : settings_{std::move(settings)},
      build_{build_token(settings_.build)},
      engine_{engine},
      self_{Address::Kind::job, hex(settings_.job)},
      epoch_{keeper_settings(settings_, build_), engine_, tickets_},
      publisher_{*this, engine_, tickets_, hex(build_), hex(settings_.job)},
      roster_{settings_.lease},
      leftovers_{.sweep = {engine_, tickets_, hex(build_), hex(settings_.job)},
                 .former = {engine_, tickets_}} {
  ledger_.count_from(settings_.first_task);
  engine_.listen(self_);
  engine_.listen({Address::Kind::nodes});
  engine_.listen({Address::Kind::heads});
}

std::string Head::job_key() const { return self_.name; }

void Head::tell(const Address& to, const Message& message) {
  engine_.tell(to, encode(build_, epoch_.epoch(), message));
}

// --- tasks

std::uint64_t Head::submit(Time now, TaskSpec spec) {
  ++counts_.submitted;
  const std::uint64_t id = ledger_.add(now, std::move(spec));
  const auto task = ledger_.find(id);
  if (!broken_.empty()) {
    end(now, task, {.how = Ended::How::refused, .text = broken_, .broken = true});
    return id;
  }
  if (settings_.assigns && !settings_.detached &&
      task->second.spec.arguments.size() <= settings_.inline_limit)
    ledger_.wait(id, task->second);
  else
    publish(id, task->second);
  return id;
}

void Head::publish(std::uint64_t id, OpenTask& task) {
  ++task.published;
  task.sequence = 0;
  publisher_.add(id);
}

bool Head::publication(std::uint64_t id, Publication& out) {
  const OpenTask* const task = ledger_.get(id);
  if (task == nullptr || task->peer != nullptr || task->sequence != 0) return false;
  const TaskSpec& spec = task->spec;
  out.priority = spec.priority > 0 ? 'h' : spec.priority < 0 ? 'l' : 'm';
  out.id = fmt::format("{}.{}.{}", job_key(), id, task->published);
  out.large = spec.arguments.size() > settings_.inline_limit ? &spec.arguments : nullptr;
  out.blob = 2 * id;
  return true;
}

Grant Head::grant_of(std::uint64_t id, const OpenTask& task) const {
  const TaskSpec& spec = task.spec;
  Grant grant;
  grant.job = settings_.job;
  grant.task = id;
  grant.at_most_once = spec.retries == 0;
  grant.retry_exceptions = spec.retry_exceptions;
  grant.timeout_ns = spec.timeout.count();
  grant.soft_timeout_ns = spec.soft_timeout.count();
  grant.priority = spec.priority;
  grant.retries = spec.retries;
  grant.name = spec.name;
  grant.code = spec.code;
  if (spec.arguments.size() <= settings_.inline_limit) grant.arguments = spec.arguments;
  return grant;
}

Bytes Head::message(std::uint64_t id, const BlobRef& blob) {
  OpenTask& task = *ledger_.get(id);
  task.sent = true;
  Grant grant = grant_of(id, task);
  grant.blob = blob;
  return encode(build_, epoch_.epoch(), Message{std::move(grant)});
}

// From here on it is this node's to run, until the node gives it back or is lost.
void Head::hold(std::uint64_t id, OpenTask& task, Peer& peer, std::uint64_t claim) {
  task.peer = &peer;
  task.claim = claim;
  task.assigned = false;
  task.begun = false;
  task.unseen = 0;
  ++task.run;
  ++held_;
  ++counts_.permitted;
  peer.held.insert(id);
}

void Head::release(std::uint64_t id, OpenTask& task) {
  if (task.peer != nullptr) {
    task.peer->held.erase(id);
    task.peer = nullptr;
    --held_;
  } else if (task.doubt) {
    task.doubt.reset();
    --held_;
  }
  doubts_.remove(id);
  task.assigned = false;
  task.begun = false;
  task.unseen = 0;
}

void Head::count_end(const Ended& ended) {
  switch (ended.how) {
    case Ended::How::result:
      ++(ended.result.kind == EndKind::value       ? counts_.done
         : ended.result.kind == EndKind::lost      ? counts_.lost
         : ended.result.kind == EndKind::timeout   ? counts_.lost
         : ended.result.kind == EndKind::cancelled ? counts_.cancelled
                                                   : counts_.failed);
      break;
    case Ended::How::node_lost: ++counts_.lost; break;
    case Ended::How::cancelled: ++counts_.cancelled; break;
    default: ++counts_.failed;
  }
}

void Head::end(Time now, Open at, Ended ended) {
  OpenTask& task = at->second;
  ended.task = at->first;
  ended.name = task.spec.name;
  ended.nodes = task.lost_nodes;
  ended.after = ended.how == Ended::How::queue_timeout ? task.spec.queue_timeout : now - task.submitted;
  if (ended.how == Ended::How::node_lost)
    ended.attempts = task.deaths;
  else if (ended.how != Ended::How::result)
    ended.attempts = task.deaths + (task.peer != nullptr ? 1 : 0);
  if (ended.node.empty() && task.peer != nullptr) ended.node = task.peer->status.node;
  if (task.sequence != 0 && task.peer == nullptr)
    engine_.erase(0, {StreamKind::tasks, entered_}, task.sequence);
  release(at->first, task);
  cancelling_.erase(at->first);
  detached_.work.erase(at->first);
  if (detached_.dropped.erase(at->first) != 0) remove_stored(at->first);
  count_end(ended);
  ledger_.erase(at);
  // Order: what a dead worker logged is in the sinks before its future fails.
  const bool failed = ended.how == Ended::How::result && ended.result.kind != EndKind::value;
  if (failed && log_.up_to(ended.result.life) < ended.result.log_up_to)
    out_.held_back.push_back({std::move(ended), now + 1s});
  else
    out_.ended.push_back(std::move(ended));
}

void Head::let_go(Time now) {
  std::erase_if(out_.held_back, [&](HeldBack& each) {
    if (log_.up_to(each.ended.result.life) < each.ended.result.log_up_to && now < each.until) return false;
    out_.ended.push_back(std::move(each.ended));
    return true;
  });
}

void Head::end_cancelled(Time now, Open task, std::string how) {
  end(now, task, {.how = Ended::How::cancelled, .text = std::move(how)});
}

bool Head::is_running(std::uint64_t id) const {
  const OpenTask* const task = ledger_.get(id);
  return task != nullptr && (task->peer != nullptr || settings_.detached) && task->begun;
}

Head::CancelState Head::cancel(Time now, std::uint64_t id, Running how) {
  const auto found = ledger_.find(id);
  if (found == ledger_.tasks().end()) return CancelState::refused;
  if (settings_.detached) return cancel_detached(now, id, how, false);
  OpenTask& task = found->second;
  if (task.peer == nullptr && !task.doubt) {  // no node has a permit, and none gets one any more
    end_cancelled(now, found, "before it began");
    return CancelState::cancelled;
  }
  if (task.doubt) return CancelState::refused;
  task.cancelling = how;
  task.answer.reset();
  task.cancel_told = Time{0};
  task.cancel_since = now;
  cancelling_.insert(id);
  repeat_cancels(now);
  return CancelState::asked;
}

std::optional<CancelAnswer> Head::cancel_answer(std::uint64_t id) const {
  const OpenTask* const task = ledger_.get(id);
  return task == nullptr ? std::optional{CancelAnswer::unknown} : task->answer;
}

void Head::repeat_cancels(Time now) {
  for (const std::uint64_t id : std::vector<std::uint64_t>(cancelling_.begin(), cancelling_.end())) {
    const auto found = ledger_.find(id);
    if (found == ledger_.tasks().end() || found->second.peer == nullptr) {
      cancelling_.erase(id);
      continue;
    }
    OpenTask& task = found->second;
    if (task.cancelling == Running::kill && now - task.cancel_since > settings_.lease) {
      end_cancelled(now, found, "while it ran; its node did not say that it was killed");
      continue;
    }
    if (task.cancel_told != Time{0} && now - task.cancel_told < cancel_again) continue;
    task.cancel_told = now;
    const Running how = task.cancelling.value_or(Running::leave);
    tell({Address::Kind::node, task.peer->status.node},
         Message{Cancel{.job = settings_.job, .life = task.peer->life, .task = id, .how = how}});
  }
}

void Head::cancel_pending(Time now) {
  for (const auto id :
       ledger_.ids([](const OpenTask& task) { return task.peer == nullptr && !task.doubt; })) {
    if (settings_.detached)
      (void)cancel_detached(now, id, Running::leave, false);
    else
      end_cancelled(now, ledger_.find(id), "by shutdown");
  }
}

void Head::set_level_if_changed(std::uint8_t level) {
  if (settings_.manifest.level == level) return;
  settings_.manifest.level = level;
  times_.last_beat.reset();  // the next beat tells
}

// --- nodes that are gone

void Head::doubt(Time, std::uint64_t id, OpenTask& task, std::string node, std::string why) {
  release(id, task);
  task.doubt = Doubt{.node = std::move(node), .why = std::move(why)};
  ++held_;
  doubts_.add(id);
}

// The node may have stored the result before it went: the results are asked before the task counts as lost.
void Head::ask_doubts(Time now) {
  if (!epoch_.ready()) return;
  doubts_.tick(now, [this](std::uint64_t id) {
    if (large_.contains(id)) return Ticket{0};  // its result is being read
    const Ticket ticket = tickets_.next();
    const Epoch epoch = ledger_.get(id)->doubt->former ? leftovers_.former.epoch() : entered_;
    engine_.find(ticket, {{StreamKind::results, epoch}, fmt::format("{}.{}", job_key(), id)});
    return ticket;
  });
}

void Head::conclude(Time now, std::uint64_t id) {
  const auto found = ledger_.find(id);
  if (found == ledger_.tasks().end() || !found->second.doubt) return;
  OpenTask& task = found->second;
  const Doubt doubt = std::move(*task.doubt);
  task.doubt = Doubt{};
  release(id, task);
  ++task.deaths;
  task.lost_nodes.push_back(doubt.node);
  if (task.cancelling && *task.cancelling != Running::ask) {
    end_cancelled(now, found, "its node was lost while it was being cancelled");
  } else if (static_cast<std::int64_t>(task.deaths) > task.spec.retries || settings_.detached) {
    end(now, found, {.how = Ended::How::node_lost, .node = doubt.node, .text = doubt.why});
  } else {
    task.cancelling.reset();
    ++counts_.retried;
    publish(id, task);
  }
}

void Head::drop_peer(Time now, std::uint64_t life, NodeNews::What what, const std::string& why) {
  const std::unique_ptr<Peer> peer = roster_.remove(life, settings_.detached);
  if (!peer) return;
  if (what == NodeNews::What::lost) ++counts_.nodes_lost;
  if (settings_.detached) {  // what becomes of its tasks is not this head's to decide
    out_.news.push_back({what, peer->status.node, why});
    return;
  }
  const std::vector<std::uint64_t> held(peer->held.begin(), peer->held.end());
  for (const auto id : held) {
    if (OpenTask* const task = ledger_.get(id)) doubt(now, id, *task, peer->status.node, why);
  }
  if (what == NodeNews::What::lost)
    tell({Address::Kind::node, peer->status.node}, Message{Reset{settings_.job, life}});
  out_.news.push_back({what, peer->status.node, why});
}

void Head::find_lost_nodes(Time now) {
  for (const auto life : roster_.silent(now)) {
    const Time silent = now - roster_.find(life)->heard;
    drop_peer(now, life, NodeNews::What::lost,
              fmt::format("nothing was heard of it for {:.1f} s (lease {:.1f} s)", seconds(silent),
                          seconds(settings_.lease)));
  }
}

void Head::break_job(Time now, const std::string& why) {
  broken_ = why;
  for (const auto id : ledger_.ids([](const OpenTask&) { return true; }))
    end(now, ledger_.find(id), {.how = Ended::How::refused, .text = broken_, .broken = true});
}

// --- time

void Head::enter_epoch(Time now) {
  if (!epoch_.ready() || entered_ == epoch_.epoch()) return;
  const Epoch before = std::exchange(entered_, epoch_.epoch());
  ++counts_.epochs;
  times_.last_beat.reset();  // the nodes wait for it
  // Nodes and other heads follow within that time, and what they have stored in the epoch before is read.
  const Time until = now + std::max(settings_.head_grace, 3 * settings_.lease) + 3s;
  const Epoch former = before != 0 ? before : epoch_.former();
  if (former != 0 && former < entered_)
    leftovers_.former.begin(now, former, {.results = feeds_.results, .log = feeds_.log}, until);
  leftovers_.sweep.forget();
  feeds_.results = tickets_.next();
  feeds_.log = tickets_.next();
  feeds_.taken = 0;
  feeds_.stored = 0;
  engine_.follow(feeds_.results, {{StreamKind::results, entered_}, job_key()}, 1);
  engine_.follow(feeds_.log, {{StreamKind::log, entered_}, job_key()}, 1);
  if (settings_.detached) return enter_epoch_detached(now);
  if (before == 0) return;
  doubts_.restart();
  for (auto& [id, task] : ledger_.tasks()) task.sequence = 0;
  // What a node has, it ends, and tells in this epoch.
  publish_pending_anew();
}

// What no node has a permit for goes into the queue once more, by another id.
void Head::publish_pending_anew() {
  publisher_.restart();
  for (const auto id : ledger_.ids(
           [](const OpenTask& task) { return task.peer == nullptr && !task.doubt && !task.waiting; })) {
    OpenTask& task = *ledger_.get(id);
    if (task.sequence != 0) engine_.erase(0, {StreamKind::tasks, entered_}, task.sequence);
    ++counts_.republished;
    publish(id, task);
  }
}

HeadBeat Head::beat_message() const {
  HeadBeat beat;
  beat.job = settings_.job;
  beat.serial = times_.beats;
  beat.open = ledger_.size();
  beat.lease_ns = settings_.lease.count();
  beat.grace_ns = settings_.head_grace.count();
  beat.level = settings_.manifest.level;
  beat.detached = settings_.detached;
  beat.closed = closed_;
  return beat;
}

Time Head::beat_every() const noexcept { return beat_interval(settings_.lease); }

void Head::beat(Time now) {
  if (times_.last_beat && now - *times_.last_beat < beat_every()) return;
  roster_.begin(now);
  times_.last_beat = now;
  ++times_.beats;
  HeadBeat beat = beat_message();
  beat.sent_at = now.count() + wall_offset_;
  tell({Address::Kind::heads}, Message{beat});
}

SignsOfLife Head::signs_of_life() const {
  SignsOfLife signs;  // without a time: a beat may be late, and nodes must not set their clocks by it
  if (!closed_)
    signs.packets.emplace_back(Address{Address::Kind::heads},
                               encode(build_, epoch_.epoch(), Message{beat_message()}));
  return signs;
}

void Head::apply_queue_timeouts(Time now) {
  for (const std::uint64_t id : ledger_.over_limit(now)) {
    const auto found = ledger_.find(id);
    if (found == ledger_.tasks().end()) continue;
    OpenTask& task = found->second;
    if (settings_.detached) {
      (void)cancel_detached(now, id, Running::leave, true);
    } else if (task.peer == nullptr && !task.doubt) {
      end(now, found, {.how = Ended::How::queue_timeout});
    } else if (!task.begun && task.peer != nullptr) {
      task.queue_timed_out = true;
      task.cancel_told = Time{0};
      cancelling_.insert(id);
    }
  }
}

std::string Head::why_unserved() const {
  const std::string others = roster_.others(*times_.last_beat, settings_.build);
  std::string text =
      fmt::format("cluster {} has had {} of {} nodes that run this build ({} of {}) for {:.1f} s. ",
                  settings_.cluster, roster_.working(), settings_.min_nodes, settings_.build.substr(0, 16),
                  settings_.program, seconds(settings_.node_timeout));
  if (const std::uint64_t refused = engine_.connection().refused_messages; refused != 0)
    text += fmt::format("{} messages were dropped, because they are not signed with its sign_key. ", refused);
  if (!others.empty()) return text + "Node " + others + ": start these nodes anew with this program.";
  return text + fmt::format("Start some with: kindred-node --cluster {} -- {}", settings_.cluster,
                            settings_.program);
}

void Head::fail_unserved(Time now) {
  const bool connected = engine_.connection().connected;
  if (!connected)
    times_.connected_since.reset();
  else if (!times_.connected_since)
    times_.connected_since = now;
  const bool just_back = connected && now - *times_.connected_since < settings_.lease;
  const Time unheard = roster_.unheard(now);
  if (unheard > settings_.node_timeout && !just_back) {
    const std::string words = engine_.connection().last_words;
    fail_unreachable(now,
                     fmt::format("the engine of cluster {} has carried nothing for {:.1f} s{}. Is the server "
                                 "running, and can it be reached?",
                                 settings_.cluster, seconds(unheard),
                                 words.empty() ? "" : " (its last words: " + words + ")"));
    return;
  }
  // Of an engine that is away, `unheard` counts the time. When it is back, streams and nodes have theirs.
  if (!connected) {
    times_.unserved_since.reset();
    return;
  }
  if (settings_.detached && epoch_.ready()) return;  // its tasks wait in the queue, however long
  const bool served = roster_.working() >= (served_once_ ? std::size_t{1} : settings_.min_nodes);
  if ((served && epoch_.ready()) || ledger_.size() == held_) {
    times_.unserved_since.reset();
    return;
  }
  if (!times_.unserved_since) times_.unserved_since = now;
  if (now - *times_.unserved_since < settings_.node_timeout) return;
  const std::string why =
      epoch_.ready()
          ? why_unserved()
          : fmt::format("the streams of cluster {} could not be made for {:.1f} s (the server's words: {})",
                        settings_.cluster, seconds(settings_.node_timeout), epoch_.words());
  for (const auto id : ledger_.ids([](const OpenTask& task) { return task.peer == nullptr && !task.doubt; }))
    end(now, ledger_.find(id), {.how = Ended::How::refused, .text = why});
  times_.unserved_since.reset();
}

void Head::fail_unreachable(Time now, const std::string& why) {
  std::vector<std::uint64_t> lives;
  for (const auto& [life, peer] : roster_.peers()) lives.push_back(life);
  for (const auto life : lives) drop_peer(now, life, NodeNews::What::lost, why);
  // The results cannot be asked either: what was on a node is lost, and so is what has waited long enough.
  for (const std::uint64_t id : doubts_.tasks()) conclude(now, id);
  for (const auto id :
       ledger_.ids([&](const OpenTask& task) { return now - task.submitted >= settings_.node_timeout; }))
    end(now, ledger_.find(id), {.how = Ended::How::refused, .text = why});
}

// The queue holds a task that no node gets, though nodes have room: the server has lost it, or its consumer
// stands. A message of its own helps in the first case, and only new queues in the second.
void Head::watch_queue(Time now) {
  if (settings_.detached || now - times_.look < look_every) return;
  times_.look = now;
  if (!epoch_.ready() || !engine_.connection().connected || roster_.working() == 0) times_.last_claim = now;
  if (now - times_.last_claim <= 3 * settings_.lease) return;
  const bool room = std::ranges::any_of(roster_.peers(), [](const auto& each) {
    return each.second->works() && each.second->held.size() < each.second->status.capacity;
  });
  // Last, because it looks at every task.
  const auto waits = [&](const auto& each) {
    const OpenTask& task = each.second;
    return task.peer == nullptr && task.sequence != 0 && now - task.stored > 3 * settings_.lease;
  };
  if (!room || std::ranges::none_of(ledger_.tasks(), waits)) return;
  times_.last_claim = now;
  if (std::exchange(times_.put_again, true))
    epoch_.raise();
  else
    publish_pending_anew();
}

void Head::sweep_queue(Time now) {
  QueueSweep& sweep = leftovers_.sweep;
  const EngineState connection = engine_.connection();
  sweep.note_outages(now, settings_.lease, connection.outages);
  if (!sweep.due(now) || !epoch_.ready() || !connection.connected) return;
  sweep.begin(now, feeds_.stored);
  std::optional<std::uint64_t> lowest = feeds_.stored + 1;
  for (const auto& [id, task] : ledger_.tasks()) {
    if (task.peer != nullptr || task.doubt || task.waiting) continue;  // it needs no message
    if (task.sequence != 0) {
      lowest = std::min(*lowest, task.sequence);
    } else if (task.submitted <= sweep.begun_at()) {
      lowest.reset();  // its message may be there already
      break;
    }
  }
  sweep.sweep(now, settings_.lease, entered_, lowest);
}

void Head::tick(Time now) {
  engine_.tick();
  epoch_.tick(now, now.count() + wall_offset_);
  if (closed_ && settings_.detached) return;
  if (!closed_) enter_epoch(now);
  beat(now);
  if (closed_) return;
  find_lost_nodes(now);
  apply_queue_timeouts(now);
  repeat_cancels(now);
  ask_doubts(now);
  fetch_blobs(now);
  fail_unserved(now);
  watch_queue(now);
  if (!settings_.detached) sweep_queue(now);
  if (epoch_.ready()) leftovers_.former.tick(now);
  served_once_ = served_once_ || settings_.detached || roster_.working() >= settings_.min_nodes;
  if (epoch_.ready() && served_once_ && engine_.connection().connected) {
    assign(now);
    publisher_.tick(now, entered_);
  }
  if (settings_.detached) work_detached(now);
  if (epoch_.ready() && !settings_.detached && feeds_.taken != 0 && now - times_.purge > purge_every) {
    times_.purge = now;
    engine_.purge(0, {{StreamKind::results, entered_}, job_key()}, std::exchange(feeds_.taken, 0));
  }
  tell_permits();
  let_go(now);
}

Time Head::next_due(Time now) const {
  Time due = times_.last_beat ? *times_.last_beat + beat_every() : now;
  due = std::min(due, epoch_.next_due(now));
  if (epoch_.ready() && served_once_ && engine_.connection().connected)
    due = std::min(due, publisher_.next_due(now));
  due = std::min(due, ledger_.next_limit());
  for (const HeldBack& each : out_.held_back) due = std::min(due, each.until);
  if (settings_.detached) due = std::min({due, detached_.records.next_due(now), detached_.look});
  if (!cancelling_.empty() || !doubts_.empty() || !large_.empty() || !detached_.work.empty())
    due = std::min(due, now + 50ms);
  return due;
}

void Head::close(Time now) {
  if (closed_) return;
  closed_ = true;
  if (settings_.detached) {  // it goes on
    for (const std::uint64_t life : roster_.lives()) roster_.remove(life);
    return;
  }
  times_.last_beat.reset();
  beat(now);
  if (!epoch_.ready()) return;
  for (const Ticket feed : {feeds_.results, feeds_.log}) engine_.unfollow(feed);
  leftovers_.former.unfollow();
  const std::string build = hex(build_);
  for (const char priority : {'h', 'm', 'l'})
    engine_.erase_at(0, {{StreamKind::tasks, entered_}, build + "." + priority + "." + job_key()}, 0);
  for (const StreamKind kind : {StreamKind::results, StreamKind::log, StreamKind::blobs})
    engine_.purge(0, {{kind, entered_}, job_key()}, 0);
  engine_.purge(0, {{StreamKind::jobs, 0}, job_key()}, 0);
}

// --- what is known

std::size_t Head::total_workers() const noexcept {
  std::size_t workers = 0;
  for (const auto& [life, peer] : roster_.peers()) workers += peer->works() ? peer->status.workers : 0;
  return workers;
}

std::vector<NodeView> Head::nodes(Time now) const {
  std::vector<NodeView> views = roster_.view(now);
  for (NodeView& view : views) {
    if (!view.member) continue;
    view.program = settings_.program;
    view.build = settings_.build;
    for (const auto& [life, peer] : roster_.peers()) {
      if (peer->status.node != view.name) continue;
      view.running = static_cast<std::size_t>(
          std::ranges::count_if(peer->held, [this](std::uint64_t id) { return is_running(id); }));
    }
  }
  return views;
}

HeadCounts Head::counts() const {
  HeadCounts counts = counts_;
  counts.pending = ledger_.size() - held_;
  counts.held = held_;
  counts.published = publisher_.published();
  counts.repeated = publisher_.repeated();
  counts.ledger_bytes = ledger_.bytes();
  counts.epoch = entered_;
  counts.outages = engine_.connection().outages;
  counts.longest_outage = roster_.longest_outage();
  return counts;
}

}  // namespace kindred::internal::cluster
