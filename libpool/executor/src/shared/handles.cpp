#include "shared/handles.hpp"

#include <map>
#include <mutex>
#include <utility>

#include "kindred/error.hpp"
#include "kindred/internal/byte_stream.hpp"
#include "kindred/internal/shared_object_channel.hpp"
#include "shared/per_process.hpp"
#include "shared/shared_object.hpp"

namespace kindred::internal {

namespace {

thread_local int no_handles_depth = 0;

/// A worker's objects, so that one that crosses twice is mapped once. (The parent's are in the registry.)
struct ObjectTable {
  std::mutex mutex;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::weak_ptr<SharedObject>>
      objects;  ///< by context and id
};

ObjectTable& table() { return per_process<ObjectTable>(); }

void let_go(SharedObject* object) noexcept {
  if (object->in_its_process()) {
    ObjectTable& all = table();
    const std::lock_guard lock{all.mutex};
    const auto found = all.objects.find({object->life().id.value, object->id()});
    // The same object may have come again meanwhile; then the account is its.
    if (found != all.objects.end() && found->second.expired()) {
      object->close_account();
      all.objects.erase(found);
    }
  }
  delete object;
}

std::shared_ptr<SharedObject> adopt(ContextId context, std::uint64_t id, SharedKind kind, std::uint32_t owner,
                                    Decoder& decoder, std::uint32_t attachment) {
  ObjectTable& all = table();
  const std::lock_guard lock{all.mutex};
  auto& known = all.objects[{context.value, id}];
  if (auto object = known.lock()) {
    if (object->kind() != kind)
      throw DecodeError{std::string{"object "} + std::to_string(id) + " is no " + to_string(kind)};
    return object;
  }
  try {
    auto memory = decoder.attachment(attachment);
    std::shared_ptr<SharedObject> object{new SharedObject{served_life(context), kind, id, owner, memory},
                                         let_go};
    memory->close_descriptor();
    known = object;
    return object;
  } catch (...) {
    all.objects.erase({context.value, id});
    throw;
  }
}

}  // namespace

NoHandlesScope::NoHandlesScope() noexcept { ++no_handles_depth; }
NoHandlesScope::~NoHandlesScope() { --no_handles_depth; }
bool handles_are_refused() noexcept { return no_handles_depth != 0; }

void throw_refused_in_channel(const char* what) {
  throw UsageError{
      std::string{"a "} + what +
      " was sent through a Channel. Its memory is passed by a descriptor, which no channel can carry: pass it to "
      "the tasks as an argument, or return it from them."};
}

// A handle in a message:
//
//     | context | object id | kind | attachment |
//
// To a worker its memory goes along. From a worker it does not: the parent has every object of its own, and
// `on_the_way` keeps it there until the handle has been read.

void encode_shared_object(Encoder& encoder, SharedKind kind, const std::shared_ptr<SharedObject>& handle) {
  if (handle && handle->life().id != encoder.context())
    throw_foreign_handle(to_string(kind), handle->life().id, encoder.context());
  SharedObject& object = use_shared_object(kind, handle);
  if (handles_are_refused()) throw_refused_in_channel(to_string(kind));
  std::uint32_t attachment = no_attachment;
  if (object.is_parents()) {
    attachment = encoder.attach(object.shared_memory());
  } else {
    // Crash: a worker that dies between here and the result keeps the object alive until the pool ends; a
    // page, no more.
    object.memory().on_the_way.fetch_add(1);
  }
  encoder.write_value(object.life().id.value);
  encoder.write_value(object.id());
  encoder.write_value(static_cast<std::uint32_t>(kind));
  encoder.write_value(attachment);
}

std::shared_ptr<SharedObject> decode_shared_object(Decoder& decoder, SharedKind kind) {
  const ContextId context{decoder.read_value<std::uint64_t>()};
  const auto id = decoder.read_value<std::uint64_t>();
  const auto its_kind = decoder.read_value<std::uint32_t>();
  const auto attachment = decoder.read_value<std::uint32_t>();
  if (context != decoder.context() || its_kind != static_cast<std::uint32_t>(kind)) {
    throw DecodeError{std::string{"a message of "} + to_string(decoder.context()) + " holds no " +
                      to_string(kind) + " of it where one belongs"};
  }
  const std::uint32_t owner = owner_here(context);
  if (owner == 0) throw_foreign_handle(to_string(kind), context, {});
  if (owner != 1) return adopt(context, id, kind, owner, decoder, attachment);
  auto object = find_in_registry(context, id);
  if (object == nullptr || object->kind() != kind) {
    throw DecodeError{std::string{"a message names a "} + to_string(kind) + " (object " + std::to_string(id) +
                      ") that " + to_string(context) + " does not have"};
  }
  if (attachment == no_attachment) {
    auto& on_the_way = object->memory().on_the_way;
    std::uint32_t seen = on_the_way.load();
    while (seen != 0 && !on_the_way.compare_exchange_weak(seen, seen - 1)) {}
  }
  return object;
}

}  // namespace kindred::internal
