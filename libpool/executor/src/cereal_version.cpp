// The codec declares names of cereal without including it (see codec_cereal.hpp). Here both meet: a name that
// cereal declares otherwise does not compile, and a version that was not tried says so.
#include <cereal/cereal.hpp>
#include <cereal/types/polymorphic.hpp>
#include <cereal/version.hpp>

#include "kindred/codec.hpp"

#if !defined(KINDRED_UNTRIED_VERSIONS)
static_assert(CEREAL_VERSION >= 10300 && CEREAL_VERSION < 10400,
              "kindred declares names of cereal, which was tried with cereal 1.3. Configure with "
              "-DKINDRED_UNTRIED_VERSIONS=ON, run codec_test, and raise the version here.");
#endif
