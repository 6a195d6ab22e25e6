#include "shared/shared_object.hpp"

#include <limits>
#include <new>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/assert.hpp"
#include "kindred/internal/futex.hpp"
#include "kindred/internal/this_process.hpp"

namespace kindred::internal {
namespace {

constexpr int everybody = std::numeric_limits<int>::max();

std::size_t accounts_bytes(std::uint32_t accounts) noexcept {
  return (accounts * sizeof(Account) + 63) / 64 * 64;
}

}  // namespace

const char* to_string(SharedKind kind) noexcept {
  switch (kind) {
    case SharedKind::mutex: return "Mutex";
    case SharedKind::semaphore: return "Semaphore";
    case SharedKind::event: return "Event";
    case SharedKind::barrier: return "Barrier";
    case SharedKind::counter: return "Counter";
    case SharedKind::channel: return "Channel";
  }
  return "shared object of an unknown kind";
}

SharedObject::SharedObject(std::shared_ptr<ContextLife> life, SharedKind kind, std::uint64_t id,
                           std::uint32_t accounts, std::uint64_t parameter, std::uint64_t arena_bytes,
                           const ObjectState& start)
    : life_{std::move(life)},
      shared_{std::make_shared<SharedMemory>(SharedMemory::create(
          "kindred-object",
          accounts_offset + accounts_bytes(accounts) + static_cast<std::size_t>(arena_bytes)))},
      id_{id},
      parameter_{parameter},
      owner_{1},
      generation_{fork_generation()},
      kind_{kind} {
  KINDRED_ASSERT(accounts != 0U);
  memory_ = new (shared_->bytes().data()) ObjectMemory{};
  memory_->identity = {.magic = object_magic,
                       .version = object_version,
                       .kind = static_cast<std::uint32_t>(kind),
                       .context = life_->id.value,
                       .id = id,
                       .parameter = parameter,
                       .arena_bytes = arena_bytes,
                       .accounts = accounts,
                       .spare = 0};
  lay_out(accounts, arena_bytes);
  accounts_[0].owner.store(owner_, std::memory_order_relaxed);
  memory_->accounts_used.store(1, std::memory_order_relaxed);
  ObjectState state = start;
  state.change_index = ObjectState::no_account;
  memory_->states[0].store(state);
}

SharedObject::SharedObject(std::shared_ptr<ContextLife> life, SharedKind kind, std::uint64_t id,
                           std::uint32_t owner, std::shared_ptr<SharedMemory> memory)
    : life_{std::move(life)},
      shared_{std::move(memory)},
      id_{id},
      owner_{owner},
      generation_{fork_generation()},
      kind_{kind} {
  if (shared_ == nullptr || shared_->size() < accounts_offset || !shared_->writable())
    throw_corrupt("it is too small or not writable");
  memory_ = std::launder(reinterpret_cast<ObjectMemory*>(shared_->bytes().data()));
  const ObjectIdentity identity = memory_->identity;  // read once: from here on, our copy
  if (identity.magic != object_magic || identity.version != object_version)
    throw_corrupt("it does not begin like one");
  if (identity.kind != static_cast<std::uint32_t>(kind) || identity.id != id ||
      identity.context != life_->id.value) {
    throw_corrupt("it is another object than the one announced");
  }
  const std::uint64_t room = shared_->size() - accounts_offset;
  const std::uint64_t for_accounts =
      identity.accounts > room / sizeof(Account) ? room + 1 : accounts_bytes(identity.accounts);
  if (identity.accounts == 0 || for_accounts > room || identity.arena_bytes > room - for_accounts)
    throw_corrupt("its parts do not fit into it");
  if (owner_ == 0 || owner_ >= owner_word::closed_owner)
    throw_corrupt("this process has no number to hold it by");
  parameter_ = identity.parameter;
  lay_out(identity.accounts, identity.arena_bytes);
  open_account();
}

void SharedObject::lay_out(std::uint32_t accounts, std::uint64_t arena_bytes) noexcept {
  account_count_ = accounts;
  const auto bytes = shared_->bytes();
  accounts_ = std::launder(reinterpret_cast<Account*>(bytes.data() + accounts_offset));
  arena_ = bytes.subspan(accounts_offset + accounts_bytes(accounts), static_cast<std::size_t>(arena_bytes));
}

std::uint32_t SharedObject::accounts_used() const noexcept {
  const std::uint32_t used = memory_->accounts_used.load(std::memory_order_acquire);
  return used < account_count_ ? used : account_count_;
}

void SharedObject::open_account() {
  Critical critical{*this};
  const std::uint32_t used = accounts_used();
  std::uint32_t free = used;
  for (std::uint32_t i = 1; i < used; ++i) {
    const std::uint32_t owner = accounts_[i].owner.load(std::memory_order_relaxed);
    if (owner == owner_) {  // left open by an earlier handle, because permits are on it
      my_account_ = i;
      return;
    }
    if (owner == 0 && accounts_[i].dead.load(std::memory_order_relaxed) == 0 && free == used) free = i;
  }
  if (free >= account_count_) {
    throw UsageError{
        std::string{"this "} + to_string(kind_) + " is held by " + std::to_string(account_count_) +
        " processes, which is as many as it has room for. Pass it to fewer workers at a time, or lower max_workers."};
  }
  if (free == used) memory_->accounts_used.store(used + 1, std::memory_order_release);
  critical.account_to_change(free).owner = owner_;
  // Crash: before this line we hold nothing, after it the parent finds our account.
  critical.commit();
  my_account_ = free;
}

void SharedObject::close_account() noexcept {
  if (is_parents() || !in_its_process()) return;
  try {
    Critical critical{*this, with_grace(std::chrono::steady_clock::now())};
    if (!critical) return;  // it stays open until this worker ends, and with it the object
    AccountEntry& mine = critical.account();
    if (mine.owner != owner_ || (kind_ == SharedKind::semaphore && mine.held != 0)) return;
    critical.clear(mine);
    critical.commit();
  } catch (const Error&) {  // the object is closed, so it has no more accounts to be kept in order
  }
}

void SharedObject::close() noexcept {
  if (!in_its_process()) return;  // a copy of the executor that a fork inherited: the memory is still in use
  closed_.store(true, std::memory_order_release);
  owner_word::close(memory_->lock);
  if (kind_ == SharedKind::mutex) {
    owner_word::close(memory_->words[0]);
    return;
  }
  for (auto& word : memory_->words) {
    // The changed word wakes also threads that are about to sleep on it. Its value does not matter: each
    // thread looks at `closed_` first.
    word.fetch_add(2);
    futex_wake(word, everybody);
  }
}

void SharedObject::require_open() const {
  require_here(to_string(kind_), *life_);
  if (closed()) throw_closed();
}

void SharedObject::throw_closed() const {
  require_here(to_string(kind_), *life_);
  throw UsageError{
      std::string{"this "} + to_string(kind_) + " belongs to " + internal::to_string(life_->id) +
      ", whose pool has ended or is broken: nobody is left who could answer. Wait for results before the pool ends, or wait with "
      "a deadline."};
}

void SharedObject::throw_corrupt(const char* what) const {
  throw UsageError{
      std::string{"the memory of this "} + to_string(kind_) + " (object " + std::to_string(id_) + " of " +
      internal::to_string(life_->id) + ") is corrupt: " + what +
      ". A worker has written over it; stop using this object and look for a stray pointer in the tasks that have it."};
}

Critical::Critical(SharedObject& object, Deadline deadline) : object_{object} {
  const auto outcome = owner_word::lock(object.memory().lock, object.owner(), deadline);
  if (outcome == owner_word::Outcome::closed) object.throw_closed();
  holds_ = outcome == owner_word::Outcome::locked;
  if (!holds_) return;
  if (object.closed()) {
    holds_ = false;
    owner_word::unlock(object.memory().lock);
    object.throw_closed();
  }
  begin();
}

Critical::Critical(SharedObject& object, Taken) noexcept : object_{object}, holds_{true} { begin(); }

Critical::~Critical() {
  ObjectMemory& memory = object_.memory();
  // A few turns at most: a process that keeps asking for repairs is not the parent, and what the parent asks
  // for is done by whoever comes next.
  for (int turn = 0; holds_ && turn < 8; ++turn) {
    holds_ = false;
    owner_word::unlock(memory.lock);
    // Crash: from here to the end sleepers may miss their wake-up; the parent wakes all when it hears of the
    // death.
    for (const int word : {0, 1}) {
      if (const int count = std::exchange(wake_count_[word], 0); count != 0)
        futex_wake(memory.words[word], count);
    }
    // Order: seq_cst. The parent stores `repair_wanted`, then tries the lock; we free the lock, then load
    // `repair_wanted`. One of us sees the other, and settles.
    if (memory.repair_wanted.load() != 0 && owner_word::try_lock(memory.lock, object_.owner())) {
      holds_ = true;
      begin();
    }
  }
  if (holds_) owner_word::unlock(memory.lock);
}

void Critical::begin() noexcept {
  ObjectMemory& memory = object_.memory();
  active_ = memory.active.load(std::memory_order_acquire) & 1U;
  state_ = memory.states[active_].load();
  apply();  // the last owner of the lock may have died between its commit and this step
  if (memory.repair_wanted.load() != 0) settle();
}

void Critical::apply() noexcept {
  if (state_.change_index < object_.accounts()) object_.account(state_.change_index).store(state_.change);
  state_.change_index = ObjectState::no_account;
}

AccountEntry& Critical::account_to_change(std::uint32_t index) noexcept {
  if (state_.change_index != index) {
    state_.change_index = index;
    state_.change = object_.account(index).load();
  }
  return state_.change;
}

void Critical::commit() noexcept {
  ObjectMemory& memory = object_.memory();
  const std::uint32_t other = active_ ^ 1U;
  // Crash: until the store to `active` the state is the old one, whole; after it the new one, whole.
  memory.states[other].store(state_);
  // Order: release, pairs with the acquire in `begin`: the state, and an element's bytes in the arena, are
  // there before they count.
  memory.active.store(other, std::memory_order_release);
  active_ = other;
  // Crash: the account still has its old value; the next owner of the lock carries the change over.
  apply();
}

void Critical::begin_waiting(int word) noexcept {
  ++account().waiting[word];
  ++state_.waiting[word];
}

void Critical::end_waiting(int word) noexcept {
  AccountEntry& mine = account();
  if (mine.waiting[word] != 0) --mine.waiting[word];
  if (state_.waiting[word] != 0) --state_.waiting[word];
}

void Critical::clear(AccountEntry& entry) noexcept {
  for (const int word : {0, 1}) {
    state_.waiting[word] -=
        entry.waiting[word] < state_.waiting[word] ? entry.waiting[word] : state_.waiting[word];
  }
  entry = {};
}

std::uint32_t Critical::ticket(int word) const noexcept {
  return object_.memory().words[word].load(std::memory_order_relaxed);
}

void Critical::wake(int word, int count) noexcept {
  if (count <= 0) return;
  object_.memory().words[word].fetch_add(1, std::memory_order_relaxed);
  wake_count_[word] = count > everybody - wake_count_[word] ? everybody : wake_count_[word] + count;
}

void Critical::settle() noexcept {
  ObjectMemory& memory = object_.memory();
  memory.repair_wanted.store(0);
  // Crash: if this process dies while it settles, the parent takes the lock from it and begins again: an
  // account is closed and its contents given back in one commit, so nothing is given back twice.
  bool settled = false;
  const std::uint32_t used = object_.accounts_used();
  for (std::uint32_t i = 1; i < used; ++i) {
    Account& account = object_.account(i);
    if (account.dead.load(std::memory_order_acquire) == 0) continue;
    AccountEntry& entry = account_to_change(i);
    if (entry.owner != 0) {
      if (object_.kind() == SharedKind::semaphore) settle_semaphore(state_, entry);
      if (object_.kind() == SharedKind::barrier) {
        settle_barrier(state_, entry, account.worker.load(std::memory_order_relaxed),
                       account.pid.load(std::memory_order_relaxed));
      }
      clear(entry);
      commit();
    } else {
      state_.change_index = ObjectState::no_account;
    }
    account.dead.store(0, std::memory_order_release);
    settled = true;
  }
  if (object_.kind() == SharedKind::barrier) {
    publish_barrier(object_, state_);
    if (settled) wake_count_[0] = everybody;
  } else if (settled && (object_.kind() == SharedKind::semaphore || object_.kind() == SharedKind::channel)) {
    wake(0, everybody);
    wake(1, everybody);
  }
}

Deadline with_grace(Deadline deadline) noexcept {
  if (!deadline) return deadline;
  const auto grace = std::chrono::steady_clock::now() + lock_grace;
  return *deadline > grace ? deadline : grace;
}

void settle_dead(SharedObject& object, std::uint32_t dead, std::int32_t worker, std::uint32_t pid) noexcept {
  ObjectMemory& memory = object.memory();
  const auto mark = [&] {
    const std::uint32_t used = object.accounts_used();
    for (std::uint32_t i = 1; i < used; ++i) {
      Account& account = object.account(i);
      if (account.owner.load(std::memory_order_acquire) != dead) continue;
      account.worker.store(worker, std::memory_order_relaxed);
      account.pid.store(pid, std::memory_order_relaxed);
      account.dead.store(1, std::memory_order_release);
    }
  };
  if (owner_word::take_from(memory.lock, dead, object.owner(), 0)) {
    // It died with the lock. What it had committed counts, also where its account does not say so yet:
    // `Critical` sees to that first.
    Critical critical{object, Critical::Taken::already};
    mark();
    critical.settle();
  } else {
    mark();
    // Order: seq_cst, pairs with the end of ~Critical.
    memory.repair_wanted.store(1);
    if (owner_word::try_lock(memory.lock, object.owner())) Critical{object, Critical::Taken::already};
    // Else: the lock's owner settles when it is done, or, if it dies, we do when we hear of that. We never
    // wait for it.
  }
  if (object.kind() == SharedKind::mutex)
    owner_word::take_from(memory.words[0], dead, 0, owner_word::abandoned);
  // Whatever wake-up the dead one owed, or had taken from another sleeper, is made up for.
  futex_wake(memory.lock, everybody);
  for (auto& word : memory.words) {
    // A sleeper whose ticket is from before a commit of the dead one must not fall asleep on it. (A mutex, an
    // event and a barrier change their word together with what it means.)
    if (object.kind() == SharedKind::semaphore || object.kind() == SharedKind::channel) word.fetch_add(1);
    futex_wake(word, everybody);
  }
}

SharedObject& use_shared_object(SharedKind kind, const std::shared_ptr<SharedObject>& object) {
  if (object == nullptr) [[unlikely]] {
    throw UsageError{
        std::string{"this "} + to_string(kind) +
        " is an empty handle. Make one with the executor's make_ function, and pass it to the workers as an argument."};
  }
  object->require_open();
  return *object;
}

}  // namespace kindred::internal
