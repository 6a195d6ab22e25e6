#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <utility>

#include "kindred/internal/codec_traits.hpp"
#include "kindred/internal/deadline.hpp"

namespace kindred::internal {

class SharedObject;
class SharedObjectRegistry;

/// What lies in a shared object's memory. The numbers are part of the layout.
enum class SharedKind : std::uint32_t { mutex = 1, semaphore, event, barrier, counter, channel };

/// Writes a handle for a message of the encoder's context. Errors: `UsageError` for an empty handle, for one
/// of another context, and within a `Channel`.
void encode_shared_object(Encoder& encoder, SharedKind kind, const std::shared_ptr<SharedObject>& object);
/// Reads a handle: the same object for every handle of the same id. Errors: `DecodeError`, `UsageError`.
[[nodiscard]] std::shared_ptr<SharedObject> decode_shared_object(Decoder& decoder, SharedKind kind);

/// Errors: `UsageError` where the handle is empty, belongs to another context, or its pool has ended.
[[nodiscard]] SharedObject& use_shared_object(SharedKind kind, const std::shared_ptr<SharedObject>& object);

/// What the handles of shared objects have in common: they are shares in one object, copied and compared like
/// `std::shared_ptr`, and they cross as arguments and results. Every other member works on the object, so it
/// is const.
template <class Handle, SharedKind kind>
class SharedHandle {
 public:
  /// False: the handle is empty. All that an empty handle can do is to be assigned to.
  explicit operator bool() const noexcept { return object_ != nullptr; }
  /// Are both handles of the same object?
  friend bool operator==(const SharedHandle& left, const SharedHandle& right) noexcept {
    return left.object_ == right.object_;
  }

  static constexpr SharedKind shared_kind = kind;

 protected:
  SharedHandle() noexcept = default;
  explicit SharedHandle(std::shared_ptr<SharedObject> object) noexcept : object_{std::move(object)} {}
  /// The object, where it may be used in this process now. Errors: `UsageError`.
  [[nodiscard]] SharedObject& use() const { return use_shared_object(kind, object_); }
  /// The object of a handle that is not empty, whatever has become of its context.
  [[nodiscard]] SharedObject& peek() const noexcept { return *object_; }

 private:
  template <class T>
  friend struct CodecTraits;
  [[nodiscard]] static Handle adopt(std::shared_ptr<SharedObject> object) {
    return Handle{std::move(object)};
  }

  std::shared_ptr<SharedObject> object_;
};

template <class T>
concept SharedObjectHandle =
    requires { T::shared_kind; } && std::derived_from<T, SharedHandle<T, T::shared_kind>>;

template <SharedObjectHandle Handle>
struct CodecTraits<Handle> {
  static constexpr bool crosses = true;
  static void encode(Encoder& encoder, const Handle& handle) {
    encode_shared_object(encoder, Handle::shared_kind, handle.object_);
  }
  [[nodiscard]] static Handle decode(Decoder& decoder) {
    return Handle::adopt(decode_shared_object(decoder, Handle::shared_kind));
  }
};

}  // namespace kindred::internal
