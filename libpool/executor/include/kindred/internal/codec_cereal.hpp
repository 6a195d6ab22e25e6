#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "kindred/internal/codec_stream.hpp"

// Types with cereal's words: serialize, save/load, save_minimal/load_minimal, as members or free functions,
// with or without a version.
//
// Nothing of cereal is included here. A type whose words need no more than `ar(a, b)` works without it. Where
// the program includes cereal, in whatever order, the names declared below are complete when a value is
// encoded, and then the rest of cereal works too: private members behind `friend class cereal::access`,
// names, versions, base classes, binary data, deferred data, shared and polymorphic pointers.
//
// The two archives are not cereal's: they keep no archive format, only members one after the other, for both
// ends are one program. And they hand everything that the codec knows (the standard library's types,
// aggregates) back to the codec, whose reading is hardened; so the headers cereal/types/*.hpp are not needed,
// and do no harm.
namespace cereal {

class access;
enum class specialization;
template <class Archive, class T, specialization>
struct specialize;
template <class T>
class NameValuePair;
template <class T>
class SizeTag;
template <class T>
struct BinaryData;
template <class T>
class DeferredData;
template <class Base>
struct base_class;
template <class Base>
struct virtual_base_class;

namespace memory_detail {
template <class T>
struct PtrWrapper;
template <class Archive, class T>
struct LoadAndConstructLoadWrapper;
}  // namespace memory_detail

namespace detail {
class OutputArchiveBase;
class InputArchiveBase;
struct Versions;
template <class T>
class StaticObject;
struct adl_tag;
template <class Archive, class T>
struct polymorphic_serialization_support;
}  // namespace detail

namespace traits::detail {
template <class Archive>
struct get_output_from_input;
template <class Archive>
struct get_input_from_output;
}  // namespace traits::detail

}  // namespace cereal

namespace kindred::internal {

/// Names `Type` in a template before it is complete.
template <class, class Type>
struct WhereComplete {
  using type = Type;
};
template <class Probe, class Type>
concept Complete = requires { sizeof(typename WhereComplete<Probe, Type>::type); };

/// cereal::access without cereal: what is public.
struct PublicAccess {
  template <class Archive, class T>
  static auto member_serialize(Archive& archive, T& value) -> decltype(value.serialize(archive)) {
    return value.serialize(archive);
  }
  template <class Archive, class T>
  static auto member_serialize(Archive& archive, T& value, std::uint32_t version)
      -> decltype(value.serialize(archive, version)) {
    return value.serialize(archive, version);
  }
  template <class Archive, class T>
  static auto member_save(Archive& archive, const T& value) -> decltype(value.save(archive)) {
    return value.save(archive);
  }
  template <class Archive, class T>
  static auto member_save(Archive& archive, const T& value, std::uint32_t version)
      -> decltype(value.save(archive, version)) {
    return value.save(archive, version);
  }
  template <class Archive, class T>
  static auto member_load(Archive& archive, T& value) -> decltype(value.load(archive)) {
    return value.load(archive);
  }
  template <class Archive, class T>
  static auto member_load(Archive& archive, T& value, std::uint32_t version)
      -> decltype(value.load(archive, version)) {
    return value.load(archive, version);
  }
  template <class Archive, class T>
  static auto member_save_minimal(const Archive& archive, const T& value)
      -> decltype(value.save_minimal(archive)) {
    return value.save_minimal(archive);
  }
  template <class Archive, class T>
  static auto member_save_minimal(const Archive& archive, const T& value, std::uint32_t version)
      -> decltype(value.save_minimal(archive, version)) {
    return value.save_minimal(archive, version);
  }
  template <class Archive, class T, class Saved>
  static auto member_load_minimal(const Archive& archive, T& value, Saved&& saved)
      -> decltype(value.load_minimal(archive, std::forward<Saved>(saved))) {
    return value.load_minimal(archive, std::forward<Saved>(saved));
  }
  template <class Archive, class T, class Saved>
  static auto member_load_minimal(const Archive& archive, T& value, Saved&& saved, std::uint32_t version)
      -> decltype(value.load_minimal(archive, std::forward<Saved>(saved), version)) {
    return value.load_minimal(archive, std::forward<Saved>(saved), version);
  }
};

/// What an archive remembers of the shared pointers, polymorphic types and virtual bases that it met.
/// Allocates when the first comes.
class WrittenObjects {
 public:
  WrittenObjects() noexcept;
  WrittenObjects(const WrittenObjects&) = delete;
  WrittenObjects& operator=(const WrittenObjects&) = delete;
  ~WrittenObjects();
  /// Returns the number of the object, with the highest bit set where it is new; 0 for null. Keeps the
  /// object, so that no other gets its address.
  std::uint32_t number_of(const std::shared_ptr<const void>& object);
  std::uint32_t number_of_type(const char* name);
  bool first_visit(const std::type_info& type, const void* base);

 private:
  struct Tables;
  Tables& tables();
  std::unique_ptr<Tables> tables_;
};

class ReadObjects {
 public:
  ReadObjects() noexcept;
  ReadObjects(const ReadObjects&) = delete;
  ReadObjects& operator=(const ReadObjects&) = delete;
  ~ReadObjects();
  void add(std::uint32_t number, std::shared_ptr<void> object, const std::type_info& type);
  /// Errors: `DecodeError` where there is no such object, or it is no `type`: the message may lie.
  [[nodiscard]] std::shared_ptr<void> object(std::uint32_t number, const std::type_info& type);
  void add_type(std::uint32_t number, const std::string& name);
  [[nodiscard]] std::string type_named(std::uint32_t number);
  bool first_visit(const std::type_info& type, const void* base);

 private:
  struct Tables;
  Tables& tables();
  std::unique_ptr<Tables> tables_;
};

struct NoArchiveBase {};

/// The archive that a `save` or `serialize` gets. Its template arguments are cereal's where the program has
/// cereal: the base makes it an archive to cereal's polymorphic registry, and the namespace of both lets
/// cereal's free functions be found.
template <class Base, class Access>
class OutputArchive : public Base {
 public:
  using is_loading = std::false_type;
  using is_saving = std::true_type;
  using access = std::conditional_t<std::is_void_v<Access>, PublicAccess, Access>;

  explicit OutputArchive(Encoder& encoder) noexcept : encoder_{encoder} {}
  OutputArchive(const OutputArchive&) = delete;
  OutputArchive& operator=(const OutputArchive&) = delete;

  template <class... T>
  OutputArchive& operator()(T&&... values) {
    (write(values), ...);
    return *this;
  }
  template <class T>
  OutputArchive& operator&(T&& value) {
    return (*this)(value);
  }
  template <class T>
  OutputArchive& operator<<(T&& value) {
    return (*this)(value);
  }
  void serializeDeferments() {
    for (std::size_t i = 0; i != deferred_.size(); ++i) deferred_[i]();
    deferred_.clear();
  }
  void saveBinary(const void* data, std::size_t bytes) { encoder_.write(data, bytes); }

  // What cereal's own functions ask of an archive.
  std::uint32_t registerSharedPointer(const std::shared_ptr<const void>& object) {
    return objects_.number_of(object);
  }
  std::uint32_t registerPolymorphicType(const char* name) { return objects_.number_of_type(name); }

  [[nodiscard]] friend Encoder& stream(OutputArchive& archive) noexcept { return archive.encoder_; }

 private:
  template <class T>
  void write(const T& value) {
    put(*this, value);
  }
  template <class T, std::size_t size>
  void write(const T (&values)[size]) {
    if constexpr (std::is_arithmetic_v<T>) {
      encoder_.write(values, sizeof values);
    } else {
      for (const auto& value : values) write(value);
    }
  }
  template <class T>
  void write(const cereal::NameValuePair<T>& pair) {
    write(pair.value);
  }
  template <class T>
  void write(const cereal::SizeTag<T>& tag) {
    encoder_.write_value(static_cast<std::uint64_t>(tag.size));
  }
  template <class T>
  void write(const cereal::BinaryData<T>& data) {
    encoder_.write(data.data, static_cast<std::size_t>(data.size));
  }
  template <class T>
  void write(const cereal::DeferredData<T>& later) {
    deferred_.push_back([this, later] { write(later.value); });
  }
  template <class T>
  void write(const cereal::base_class<T>& base) {
    put(*this, static_cast<const T&>(*base.base_ptr));
  }
  template <class T>
  void write(const cereal::virtual_base_class<T>& base) {
    if (objects_.first_visit(typeid(T), base.base_ptr)) put(*this, static_cast<const T&>(*base.base_ptr));
  }
  template <class T>
  void write(const cereal::memory_detail::PtrWrapper<T>& pointer) {
    const Nesting level{encoder_};
    save(*this, pointer);
  }

  Encoder& encoder_;
  WrittenObjects objects_;
  std::vector<std::function<void()>> deferred_;
};

/// The archive that a `load` or `serialize` gets in the process that reads.
template <class Base, class Access>
class InputArchive : public Base {
 public:
  using is_loading = std::true_type;
  using is_saving = std::false_type;
  using access = std::conditional_t<std::is_void_v<Access>, PublicAccess, Access>;

  explicit InputArchive(Decoder& decoder) noexcept : decoder_{decoder} {}
  InputArchive(const InputArchive&) = delete;
  InputArchive& operator=(const InputArchive&) = delete;

  template <class... T>
  InputArchive& operator()(T&&... values) {
    (read(values), ...);
    return *this;
  }
  template <class T>
  InputArchive& operator&(T&& value) {
    return (*this)(value);
  }
  template <class T>
  InputArchive& operator>>(T&& value) {
    return (*this)(value);
  }
  void serializeDeferments() {
    for (std::size_t i = 0; i != deferred_.size(); ++i) deferred_[i]();
    deferred_.clear();
  }
  void loadBinary(void* data, std::size_t bytes) { decoder_.read(data, bytes); }

  // What cereal's own functions ask of an archive.
  template <class T>
  void registerSharedPointer(std::uint32_t number, const std::shared_ptr<T>& object) {
    objects_.add(number, std::const_pointer_cast<std::remove_const_t<T>>(object), typeid(T));
  }
  [[nodiscard]] std::shared_ptr<void> getSharedPointer(std::uint32_t number) {
    return objects_.object(number, *expected_);
  }
  void registerPolymorphicName(std::uint32_t number, const std::string& name) {
    objects_.add_type(number, name);
  }
  [[nodiscard]] std::string getPolymorphicName(std::uint32_t number) { return objects_.type_named(number); }
  template <class T>
  [[nodiscard]] std::uint32_t loadClassVersion();

  [[nodiscard]] friend Decoder& stream(InputArchive& archive) noexcept { return archive.decoder_; }

 private:
  template <class T>
  void read(T& value) {
    get_into(*this, value);
  }
  template <class T, std::size_t size>
  void read(T (&values)[size]) {
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      decoder_.read(values, sizeof values);
    } else {
      for (auto& value : values) read(value);
    }
  }
  template <class T>
  void read(cereal::NameValuePair<T>& pair) {
    read(pair.value);
  }
  template <class T>
  void read(cereal::SizeTag<T>& tag) {
    // The elements follow, and cost a byte each at least: so the reader cannot be made to allocate more of
    // them than the message has bytes.
    tag.size = static_cast<std::remove_reference_t<decltype(tag.size)>>(decoder_.read_count(1));
  }
  template <class T>
  void read(cereal::BinaryData<T>& data) {
    decoder_.read(data.data, static_cast<std::size_t>(data.size));
  }
  template <class T>
  void read(cereal::DeferredData<T>& later) {
    deferred_.push_back([this, later]() mutable { read(later.value); });
  }
  template <class T>
  void read(cereal::base_class<T>& base) {
    get_into(*this, *base.base_ptr);
  }
  template <class T>
  void read(cereal::virtual_base_class<T>& base) {
    if (objects_.first_visit(typeid(T), base.base_ptr)) get_into(*this, *base.base_ptr);
  }
  template <class T>
  void read(cereal::memory_detail::PtrWrapper<T>& pointer) {
    const Nesting level{decoder_};
    // Invariant: cereal reads the number of a shared object first, and casts what it gets to this type
    // without a check.
    expected_ = &typeid(typename std::remove_reference_t<T>::element_type);
    load(*this, pointer);
  }
  template <class T>
  void read(cereal::memory_detail::LoadAndConstructLoadWrapper<InputArchive, T>& object) {
    object.serialize(*this);
  }

  Decoder& decoder_;
  ReadObjects objects_;
  const std::type_info* expected_ = &typeid(void);
  std::vector<std::function<void()>> deferred_;
};

using CerealOutput = OutputArchive<cereal::detail::OutputArchiveBase, cereal::access>;
using CerealInput = InputArchive<cereal::detail::InputArchiveBase, cereal::access>;
using PlainOutput = OutputArchive<NoArchiveBase, void>;
using PlainInput = InputArchive<NoArchiveBase, void>;

template <class T>
using OutputArchiveFor =
    std::conditional_t<Complete<T, cereal::detail::OutputArchiveBase>, CerealOutput, PlainOutput>;
template <class T>
using InputArchiveFor =
    std::conditional_t<Complete<T, cereal::detail::InputArchiveBase>, CerealInput, PlainInput>;

// --- which words a type has

enum class Word : unsigned char {
  none,
  several,
  member_serialize,
  member_save,
  member_save_minimal,
  free_serialize,
  free_save,
  free_save_minimal,
  member_serialize_versioned,
  member_save_versioned,
  member_save_minimal_versioned,
  free_serialize_versioned,
  free_save_versioned,
  free_save_minimal_versioned
};

/// The program chose one of several words with cereal::specialize.
template <class Archive, class T, int number>
concept Specialized =
    requires { sizeof(cereal::specialize<Archive, T, static_cast<cereal::specialization>(number)>); } &&
    !std::is_base_of_v<std::false_type,
                       cereal::specialize<Archive, T, static_cast<cereal::specialization>(number)>>;

template <class T>
consteval Word find_word() {
  using Archive = OutputArchiveFor<T>;
  using Access = typename Archive::access;
  constexpr bool has[] = {requires(Archive & archive, T & value){Access::member_serialize(archive, value);
}
, requires(Archive& archive, const T& value) { Access::member_save(archive, value); },
    requires(const Archive& archive, const T& value) { Access::member_save_minimal(archive, value); },
    requires(Archive& archive, T& value) { serialize(archive, value); },
    requires(Archive& archive, const T& value) { save(archive, value); },
    requires(const Archive& archive, const T& value) { save_minimal(archive, value); },
    requires(Archive& archive, T& value) { Access::member_serialize(archive, value, 0U); },
    requires(Archive& archive, const T& value) { Access::member_save(archive, value, 0U); },
    requires(const Archive& archive, const T& value) { Access::member_save_minimal(archive, value, 0U); },
    requires(Archive& archive, T& value) { serialize(archive, value, 0U); },
    requires(Archive& archive, const T& value) { save(archive, value, 0U); },
    requires(const Archive& archive, const T& value) { save_minimal(archive, value, 0U); }
};  // namespace kindred::internal
constexpr bool chosen[] = {Specialized<Archive, T, 0>, Specialized<Archive, T, 1>,
                           Specialized<Archive, T, 2>, Specialized<Archive, T, 3>,
                           Specialized<Archive, T, 4>, Specialized<Archive, T, 5>};
Word found = Word::none;
for (int i = 0; i != 12; ++i) {
  if (!has[i]) continue;
  const auto word = static_cast<Word>(static_cast<int>(Word::member_serialize) + i);
  if (chosen[i % 6]) return word;
  found = found == Word::none ? word : Word::several;
}
return found;
}

template <class T>
inline constexpr Word word_of = find_word<T>();

/// `CEREAL_CLASS_VERSION` of the type, or 0. It need not travel: both ends are one program.
template <class T>
std::uint32_t class_version() {
  using Versions = typename WhereComplete<T, cereal::detail::Versions>::type;
  if constexpr (Complete<T, cereal::detail::Versions>) {
    const auto& mapping = cereal::detail::StaticObject<Versions>::getInstance().mapping;
    const auto found = mapping.find(typeid(T).hash_code());
    return found == mapping.end() ? 0 : found->second;
  } else {
    return 0;
  }
}
template <class Base, class Access>
template <class T>
std::uint32_t InputArchive<Base, Access>::loadClassVersion() {
  return class_version<T>();
}

template <class Archive, class T>
void put_word(Archive& archive, const T& value) {
  constexpr auto word = word_of<T>;
  static_assert(
      word != Word::several,
      "kindred: this type has more than one of serialize, save/load and save_minimal/load_minimal (perhaps inherited): choose one "
      "with CEREAL_SPECIALIZE_FOR_ALL_ARCHIVES");
  using Access = typename Archive::access;
  const Nesting level{stream(archive)};
  [[maybe_unused]] auto& object =
      const_cast<T&>(value);  // cereal's one `serialize` serves both directions, so it is not const
  if constexpr (word == Word::member_serialize) Access::member_serialize(archive, object);
  if constexpr (word == Word::member_save) Access::member_save(archive, value);
  if constexpr (word == Word::member_save_minimal)
    archive(Access::member_save_minimal(std::as_const(archive), value));
  if constexpr (word == Word::free_serialize) serialize(archive, object);
  if constexpr (word == Word::free_save) save(archive, value);
  if constexpr (word == Word::free_save_minimal) archive(save_minimal(std::as_const(archive), value));
  if constexpr (word == Word::member_serialize_versioned)
    Access::member_serialize(archive, object, class_version<T>());
  if constexpr (word == Word::member_save_versioned) Access::member_save(archive, value, class_version<T>());
  if constexpr (word == Word::member_save_minimal_versioned) {
    archive(Access::member_save_minimal(std::as_const(archive), value, class_version<T>()));
  }
  if constexpr (word == Word::free_serialize_versioned) serialize(archive, object, class_version<T>());
  if constexpr (word == Word::free_save_versioned) save(archive, value, class_version<T>());
  if constexpr (word == Word::free_save_minimal_versioned)
    archive(save_minimal(std::as_const(archive), value, class_version<T>()));
}

template <class Archive, class T>
void get_word(Archive& archive, T& value) {
  constexpr auto word = word_of<T>;
  using Access = typename Archive::access;
  using Output = OutputArchiveFor<T>;
  const Nesting level{stream(archive)};
  if constexpr (word == Word::member_serialize) Access::member_serialize(archive, value);
  if constexpr (word == Word::member_save) Access::member_load(archive, value);
  if constexpr (word == Word::member_save_minimal) {
    using Saved =
        std::remove_cvref_t<decltype(Access::member_save_minimal(std::declval<const Output&>(), value))>;
    Access::member_load_minimal(std::as_const(archive), value, get<Saved>(archive));
  }
  if constexpr (word == Word::free_serialize) serialize(archive, value);
  if constexpr (word == Word::free_save) load(archive, value);
  if constexpr (word == Word::free_save_minimal) {
    using Saved =
        std::remove_cvref_t<decltype(save_minimal(std::declval<const Output&>(), std::as_const(value)))>;
    load_minimal(std::as_const(archive), value, get<Saved>(archive));
  }
  if constexpr (word == Word::member_serialize_versioned)
    Access::member_serialize(archive, value, class_version<T>());
  if constexpr (word == Word::member_save_versioned) Access::member_load(archive, value, class_version<T>());
  if constexpr (word == Word::member_save_minimal_versioned) {
    using Saved =
        std::remove_cvref_t<decltype(Access::member_save_minimal(std::declval<const Output&>(), value, 0U))>;
    Access::member_load_minimal(std::as_const(archive), value, get<Saved>(archive), class_version<T>());
  }
  if constexpr (word == Word::free_serialize_versioned) serialize(archive, value, class_version<T>());
  if constexpr (word == Word::free_save_versioned) load(archive, value, class_version<T>());
  if constexpr (word == Word::free_save_minimal_versioned) {
    using Saved =
        std::remove_cvref_t<decltype(save_minimal(std::declval<const Output&>(), std::as_const(value), 0U))>;
    load_minimal(std::as_const(archive), value, get<Saved>(archive), class_version<T>());
  }
}

// An archive is made where the first type with a word of its own is met, and serves all that is inside.
template <class T>
void put_with_word(Encoder& encoder, const T& value) {
  OutputArchiveFor<T> archive{encoder};
  put_word(archive, value);
}
template <class Base, class Access, class T>
void put_with_word(OutputArchive<Base, Access>& archive, const T& value) {
  put_word(archive, value);
}
template <class T>
void get_with_word(Decoder& decoder, T& value) {
  InputArchiveFor<T> archive{decoder};
  get_word(archive, value);
}
template <class Base, class Access, class T>
void get_with_word(InputArchive<Base, Access>& archive, T& value) {
  get_word(archive, value);
}

/// A smart pointer that cereal follows: `cereal/types/memory.hpp` or `polymorphic.hpp` is included.
template <class Pointer>
concept CerealPointer =
    requires(OutputArchiveFor<Pointer>& archive, const Pointer& pointer) { save(archive, pointer); };

template <class Pointer>
void put_cereal_pointer(Encoder& encoder, const Pointer& pointer) {
  OutputArchiveFor<Pointer> archive{encoder};
  save(archive, pointer);
}
template <class Base, class Access, class Pointer>
void put_cereal_pointer(OutputArchive<Base, Access>& archive, const Pointer& pointer) {
  save(archive, pointer);
}
template <class Pointer>
void get_cereal_pointer(Decoder& decoder, Pointer& pointer) {
  InputArchiveFor<Pointer> archive{decoder};
  load(archive, pointer);
}
template <class Base, class Access, class Pointer>
void get_cereal_pointer(InputArchive<Base, Access>& archive, Pointer& pointer) {
  load(archive, pointer);
}

}  // namespace kindred::internal

namespace cereal {

// The two archives belong together, and polymorphic types registered with CEREAL_REGISTER_TYPE are registered
// for them too: what CEREAL_SETUP_ARCHIVE_TRAITS and CEREAL_REGISTER_ARCHIVE say.
namespace traits::detail {
template <>
struct get_output_from_input<kindred::internal::CerealInput> {
  using type = kindred::internal::CerealOutput;
};
template <>
struct get_input_from_output<kindred::internal::CerealOutput> {
  using type = kindred::internal::CerealInput;
};
}  // namespace traits::detail

namespace detail {
template <class T, class Tag>
typename polymorphic_serialization_support<kindred::internal::CerealOutput, T>::type
instantiate_polymorphic_binding(T*, kindred::internal::CerealOutput*, Tag, adl_tag);
template <class T, class Tag>
typename polymorphic_serialization_support<kindred::internal::CerealInput, T>::type
instantiate_polymorphic_binding(T*, kindred::internal::CerealInput*, Tag, adl_tag);
}  // namespace detail

}  // namespace cereal
