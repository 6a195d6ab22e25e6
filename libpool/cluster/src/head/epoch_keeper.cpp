#include "head/epoch_keeper.hpp"

#include <algorithm>
#include <array>

#include "engine/epoch_key.hpp"

namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr Time patience = 1s;       ///< for an answer; then the question is asked again
constexpr Time look_every = 200ms;  ///< at the streams
constexpr Time after_refusal = 250ms;

constexpr std::array stream_order = {StreamKind::nodes,   StreamKind::jobs, StreamKind::tasks,
                                     StreamKind::results, StreamKind::log,  StreamKind::blobs};
constexpr std::array<char, 3> classes = {'h', 'm', 'l'};

}  // namespace

EpochKeeper::EpochKeeper(Settings settings, Engine& engine, Tickets& tickets)
    : settings_{std::move(settings)}, engine_{engine}, tickets_{tickets} {}

Stream EpochKeeper::stream_at(unsigned step) const noexcept {
  const StreamKind kind = stream_order[step - step_first_stream];
  return {kind, holds_keys(kind) ? 0 : epoch_};
}

StreamLimits EpochKeeper::limits_of(StreamKind kind) const noexcept {
  StreamLimits limits;
  limits.replicas = settings_.replicas;
  limits.in_memory = settings_.in_memory;
  switch (kind) {
    case StreamKind::tasks: limits.max_bytes = settings_.max_queue_bytes; break;
    case StreamKind::results:
    case StreamKind::blobs:
      limits.max_age = settings_.keep_results;
      limits.insist = settings_.insist;
      break;
    case StreamKind::log:
      limits.max_age = settings_.keep_results;
      limits.max_bytes = 256U << 20U;
      break;
    case StreamKind::nodes: limits.max_age = settings_.node_key_age; break;
    default: break;
  }
  return limits;
}

void EpochKeeper::begin_again(Epoch at_least) noexcept {
  wanted_ = std::max(wanted_, at_least);
  step_ = step_bucket;
  asked_ = 0;
  confirmed_ = confirmed_before_look_ = 0;
  created_.clear();
}

void EpochKeeper::hear_of(Epoch other) noexcept {
  if (other > epoch_ && other > wanted_) begin_again(other);
}
void EpochKeeper::raise() noexcept { begin_again(epoch_ + 1); }

void EpochKeeper::ask(Time now, std::int64_t wall_ns) {
  asked_ = tickets_.next();
  asked_at_ = now;
  if (step_ == step_bucket) {
    engine_.ensure(asked_, epoch_place.stream,
                   {.replicas = settings_.replicas, .in_memory = settings_.in_memory});
  } else if (step_ == step_read) {
    engine_.find(asked_, epoch_place);
  } else if (step_ == step_claim) {
    proposed_ = std::max<Epoch>(wanted_, static_cast<Epoch>(std::max<std::int64_t>(1, wall_ns / 1'000'000)));
    const Expect expect =
        revision_ == 0 ? Expect{Expect::What::absent, 0} : Expect{Expect::What::revision, revision_};
    engine_.put(asked_, epoch_place, {}, epoch_bytes(proposed_, former_), expect);
  } else if (step_ < step_first_queue) {
    const Stream stream = stream_at(step_);
    engine_.ensure(asked_, stream, limits_of(stream.kind));
  } else if (step_ < step_manifest) {
    engine_.ensure(asked_, Queue{epoch_, settings_.build, classes[step_ - step_first_queue]},
                   settings_.lease);
  } else {
    engine_.put(asked_, {{StreamKind::jobs, 0}, settings_.job}, {}, settings_.manifest, {});
  }
}

void EpochKeeper::on_step(const Answer& answer) {
  const bool found = answer.how == Answer::How::done;
  if (step_ == step_read) {
    if (!found && answer.how != Answer::How::missing) return;
    const Epoch there = found ? epoch_in(answer.bytes) : 0;
    revision_ = found ? answer.number : 0;
    if (there >= wanted_) {
      epoch_ = there;
      former_ = former_epoch_in(answer.bytes);
      step_ = step_first_stream;
    } else {
      former_ = std::max(there, epoch_);  // the key may be gone with the store
      step_ = step_claim;
    }
    return;
  }
  if (step_ == step_claim) {
    if (answer.how == Answer::How::conflict) step_ = step_read;
    if (answer.how == Answer::How::missing) step_ = step_bucket;
    if (!found) return;
    epoch_ = proposed_;
    step_ = step_first_stream;
    return;
  }
  if (!found) {  // the bucket or a stream has gone meanwhile
    if (answer.how == Answer::How::missing && step_ > step_first_stream) step_ = step_bucket;
    return;
  }
  if (step_ >= step_first_stream && step_ < step_first_queue && stream_at(step_).kind == StreamKind::tasks)
    created_ = answer.text;
  ++step_;
}

void EpochKeeper::on_look(const Answer& answer) {
  if (answer.how == Answer::How::refused || answer.how == Answer::How::conflict) return;
  const bool gone = answer.how == Answer::How::missing;
  const bool made_anew = !gone && !created_.empty() && !answer.text.empty() && answer.text != created_;
  if (!gone && created_.empty()) created_ = answer.text;
  if (gone || made_anew || answer.number < confirmed_before_look_) begin_again(epoch_ + 1);
}

bool EpochKeeper::on_answer(Time now, const Answer& answer) {
  if (answer.how == Answer::How::refused) words_ = answer.text;
  if (answer.ticket == asked_) {
    asked_ = 0;
    if (answer.how == Answer::How::missing) words_ = answer.text;
    const unsigned before = step_;
    on_step(answer);
    if (step_ == before && answer.how != Answer::How::done) {  // asked again after a moment
      asked_ = tickets_.next();
      asked_at_ = now - patience + after_refusal;
    }
    return true;
  }
  if (answer.ticket == looked_) {
    looked_ = 0;
    if (ready()) on_look(answer);
    return true;
  }
  if (answer.ticket == read_) {
    read_ = 0;
    if (!ready() || answer.how == Answer::How::refused) return true;
    const Epoch there = answer.how == Answer::How::done ? epoch_in(answer.bytes) : 0;
    if (there != epoch_) begin_again(there > epoch_ ? there : epoch_ + 1);
    return true;
  }
  return false;
}

void EpochKeeper::look(Time now) {
  confirmed_before_look_ = confirmed_;
  looked_ = tickets_.next();
  engine_.state(looked_, {StreamKind::tasks, epoch_});
  read_ = tickets_.next();
  engine_.find(read_, epoch_place);
  look_at_ = now + look_every;
}

void EpochKeeper::tick(Time now, std::int64_t wall_ns) {
  if (ready()) {
    if (now >= look_at_) look(now);
    return;
  }
  if (asked_ == 0 || now - asked_at_ >= patience) ask(now, wall_ns);
}

Time EpochKeeper::next_due(Time now) const noexcept {
  if (ready()) return look_at_;
  return asked_ == 0 ? now : asked_at_ + patience;
}

}  // namespace kindred::internal::cluster
