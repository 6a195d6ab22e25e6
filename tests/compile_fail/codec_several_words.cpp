// expect: choose one with CEREAL_SPECIALIZE_FOR_ALL_ARCHIVES
#include "kindred/internal/codec_task.hpp"

#ifdef KINDRED_COMPILES
struct One {
  int a = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a);
  }
};
void write(kindred::internal::Encoder& encoder) { kindred::internal::encode(encoder, One{}); }
#else
struct Both {
  int a = 0;
  template <class Archive>
  void serialize(Archive& archive) {
    archive(a);
  }
  template <class Archive>
  void save(Archive& archive) const {
    archive(a);
  }
  template <class Archive>
  void load(Archive& archive) {
    archive(a);
  }
};
void write(kindred::internal::Encoder& encoder) { kindred::internal::encode(encoder, Both{}); }
#endif
