#include <algorithm>

#include <fmt/format.h>

#include "engine/epoch_key.hpp"
#include "node/node.hpp"

// Tasks of jobs that go on without a head. Nobody permits them: a node begins one by a record of that, which
// the engine stores only over the record that the node has read.
namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr Time answer_patience = 1s;
constexpr Time after_refusal = 250ms;
constexpr Time head_silence = 3s;  ///< then the epoch is looked up
constexpr std::size_t max_others = 16'384;

std::string hex(std::uint64_t number) { return fmt::format("{:016x}", number); }

}  // namespace

// The heads tell the epoch in their beats; a detached job may have none.
void Node::find_epoch(Time now) {
  if (now < times_.look_at || (times_.head != Time{0} && now - times_.head < head_silence)) return;
  times_.look_at = now + answer_patience;
  times_.looked = tickets_.next();
  engine_.find(times_.looked, epoch_place);
}

// --- which nodes are there

void Node::hear_node(Time now, const NodeBeat& beat) {
  if (beat.instance != settings_.instance) {
    if (others_.heard.size() < max_others || others_.heard.contains(beat.instance))
      others_.heard[beat.instance] = now;
    return;
  }
  if (!others_.self || now - *others_.self > times_.lease / 3) {
    others_.since = now;  // no node could be heard meanwhile
    std::erase_if(others_.heard, [&](const auto& each) { return now - each.second > 10 * times_.lease; });
  }
  others_.self = now;
}

bool Node::is_gone(Time, const Begun& begun) const {
  if (begun.instance == settings_.instance) return true;  // we know that we do not have it
  if (!others_.self) return false;
  const auto heard = others_.heard.find(begun.instance);
  const Time last = heard == others_.heard.end() ? others_.since : std::max(heard->second, others_.since);
  return *others_.self - last > times_.lease;
}

// --- taking

void Node::take_detached(Time now) {
  for (const auto& [id, job] : jobs_) {
    if (!job->detached || !job->open) continue;
    for (auto& [task, held] : job->held) {
      if (held.state == HeldState::claimed && held.epoch == epoch_) ask_taking(now, id, *job, task, held);
    }
  }
}

void Node::ask_taking(Time now, std::uint64_t id, const Job& job, std::uint64_t task, Held& held) {
  if (!held.taking) {
    held.taking = std::make_unique<Taking>();
    if (held.count > 1) held.taking->step = Taking::Step::look;
  }
  Taking& taking = *held.taking;
  if (taking.asked != 0 && now - taking.asked_at < answer_patience) return;
  taking.asked = tickets_.next();
  taking.asked_at = now;
  const std::string path = fmt::format("{}.{}", hex(id), task);
  const Place record{{StreamKind::results, epoch_}, path + ".begun"};
  if (taking.step == Taking::Step::look) return engine_.find(taking.asked, record);
  if (taking.step == Taking::Step::result)
    return engine_.find(taking.asked, {{StreamKind::results, epoch_}, path});
  const bool back = taking.step == Taking::Step::back;
  Begun begun = taking.last;
  begun.job = id;
  begun.task = task;
  begun.life = back ? 0 : job.life;
  begun.claim = held.claim;
  begun.instance = settings_.instance;
  begun.node = settings_.name;
  if (back) {
    --begun.attempts;
  } else {
    if (taking.last.life != 0) begun.nodes.push_back(taking.last.node);
    ++begun.attempts;
  }
  const Expect expect = taking.revision == 0 ? Expect{Expect::What::absent, 0}
                                             : Expect{Expect::What::revision, taking.revision};
  engine_.put(taking.asked, record,
              fmt::format("{}.b.{}.{}.{}", epoch_, hex(job.life), held.claim, back ? 1 : 0),
              encode(build_, epoch_, Message{begun}), expect);
}

bool Node::on_taking_answer(Time now, std::uint64_t id, Job& job, const Answer& answer) {
  for (auto& [task, held] : job.held) {
    if (!held.taking || held.state != HeldState::claimed || held.taking->asked != answer.ticket) continue;
    Taking& taking = *held.taking;
    if (answer.how == Answer::How::refused) {  // asked again after a moment
      taking.asked_at = now - answer_patience + after_refusal;
      return true;
    }
    taking.asked = 0;
    const std::uint64_t number = task;
    switch (taking.step) {
      case Taking::Step::look: on_looked(now, id, job, held, answer); break;
      case Taking::Step::result: on_result_looked(now, id, job, held, answer); break;
      case Taking::Step::put: on_begun_put(job, held, answer); break;
      case Taking::Step::back: settle(held, Settle::back);
    }
    if (held.state == HeldState::claimed && held.settled) job.held.erase(number);
    return true;
  }
  return false;
}

void Node::on_looked(Time now, std::uint64_t, Job& job, Held& held, const Answer& answer) {
  Taking& taking = *held.taking;
  taking.revision = 0;
  taking.last = {};
  taking.step = Taking::Step::put;
  if (answer.how == Answer::How::missing) {
    if (taking.unwanted) settle(held, Settle::back);
    return;
  }
  const auto envelope = decode(build_, answer.bytes);
  const auto* const begun = envelope ? std::get_if<Begun>(&envelope->message) : nullptr;
  if (begun == nullptr) return;
  taking.revision = answer.number;
  taking.last = *begun;
  if (begun->cancelled) {
    settle(held, Settle::done);
  } else if (begun->life == job.life && begun->claim == held.claim) {  // our own record was stored
    on_begun_put(job, held, {.ticket = 0, .how = Answer::How::done, .number = answer.number});
  } else if (taking.unwanted) {
    settle(held, Settle::back);
  } else if (begun->life != 0) {
    if (is_gone(now, *begun))
      taking.step = Taking::Step::result;
    else
      settle(held, Settle::later);  // the other node may still run it, and only be cut off
  }
}

void Node::on_result_looked(Time, std::uint64_t id, Job& job, Held& held, const Answer& answer) {
  Taking& taking = *held.taking;
  if (answer.how != Answer::How::missing) {
    settle(held, Settle::done);
    return;
  }
  const Begun& last = taking.last;
  const Grant& grant = held.grant;
  if (!grant.at_most_once && last.attempts <= static_cast<std::uint32_t>(std::max(grant.retries, 0))) {
    taking.step = Taking::Step::put;
    return;
  }
  Result result;
  result.task = grant.task;
  result.run = last.attempts;
  result.attempt = last.attempts;
  result.kind = EndKind::node_lost;
  result.nodes = last.nodes;
  result.nodes.push_back(last.node);
  result.text = "the engine gave its task out anew, and nothing is heard of the node";
  held.state = HeldState::finished;
  held.taking.reset();
  store(id, job, std::move(result));
}

void Node::on_begun_put(Job& job, Held& held, const Answer& answer) {
  Taking& taking = *held.taking;
  if (answer.how == Answer::How::conflict) {  // another node was faster, or our own answer was lost
    taking.step = Taking::Step::look;
    return;
  }
  if (answer.how != Answer::How::done) return;  // the stream is gone: the epoch will tell
  if (taking.step == Taking::Step::put &&
      !(taking.last.life == job.life && taking.last.claim == held.claim)) {
    if (taking.last.life != 0) taking.last.nodes.push_back(taking.last.node);
    ++taking.last.attempts;
    taking.last.node = settings_.name;
    taking.last.life = job.life;
    taking.last.claim = held.claim;
  }
  taking.revision = answer.number;
  if (taking.unwanted || draining_ || !job.broken.empty()) {
    take_back(held);
    return;
  }
  begin_taken(job, held);
}

void Node::begin_taken(Job& job, Held& held) {
  Grant& grant = held.grant;
  grant.run = held.taking->last.attempts;
  grant.attempt = held.taking->last.attempts;
  grant.retries = std::max(0, grant.retries - static_cast<std::int32_t>(grant.attempt - 1));
  held.state = HeldState::ready;
  job.status_due = true;
  begin(job, held);
}

// It has not begun, and shall not here. False: our record may be stored, and its answer is awaited first.
bool Node::give_up_taking(Held& held, Settle how) {
  if (held.taking && held.taking->step == Taking::Step::back) return false;
  if (held.taking && held.taking->step == Taking::Step::put && held.taking->asked != 0) {
    held.taking->unwanted = true;
    return false;
  }
  settle(held, how);
  return true;
}

// Our record says that we have begun it; that is taken back before the task goes back.
void Node::take_back(Held& held) {
  held.state = HeldState::claimed;
  held.blob.reset();
  if (!held.taking) return;
  held.taking->step = Taking::Step::back;
  held.taking->asked = 0;
}

Time Node::taking_due(Time now, const Job& job) const {
  Time due = Time::max();
  if (!job.detached || !job.open) return due;
  for (const auto& [task, held] : job.held) {
    if (held.state != HeldState::claimed || held.epoch != epoch_) continue;
    due = std::min(due,
                   !held.taking || held.taking->asked == 0 ? now : held.taking->asked_at + answer_patience);
  }
  return due;
}

}  // namespace kindred::internal::cluster
