# `cpack -G DEB` of a build with shared libraries makes four packages (three where kindred-view and kindred-top are not built), and tests/support/make_debs completes them (descriptions, shlibs, triggers,
# which the releases of CPack write each in a way of its own).
#   libkindred<MAJOR.MINOR>   the shared libraries, named after their SONAME, so that two versions can be installed
#   libkindred-dev            headers, CMake package, kindred.pc, the static kindred::main
#   kindred-tools             kindred-tail, its manual page and completions
#   kindred-view              kindred-view and kindred-top with theirs: apart, because they need libraries that nothing else of kindred does
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME kindred)
set(CPACK_PACKAGE_VENDOR "The kindred developers")
set(CPACK_PACKAGE_CONTACT "The kindred developers <kindred@invalid.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "process pool for C++20 with logging built in")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL library dev tools)
get_property(view_programs GLOBAL PROPERTY KINDRED_VIEW_PROGRAMS)
if(view_programs)
  list(APPEND CPACK_COMPONENTS_ALL view)
endif()
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/libpool/context ${PROJECT_BINARY_DIR}/liblog
  ${PROJECT_BINARY_DIR}/libpool/executor)

set(soname_version ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
set(library_package libkindred${soname_version})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME ${library_package})
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SHLIBDEPS ON)

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libkindred-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_SHLIBDEPS OFF)
# What our headers include, and what kindred.pc names: pkg-config wants the modules of Requires.private to be there too.
execute_process(COMMAND ${PROJECT_SOURCE_DIR}/tests/support/install_packages --list build
  OUTPUT_VARIABLE build_packages OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
string(REPLACE "\n" ";" build_packages "${build_packages}")
list(FILTER build_packages INCLUDE REGEX "-dev$")
list(REMOVE_ITEM build_packages libcli11-dev)  # of the tools only
if(NOT build_packages MATCHES boost)
  list(APPEND build_packages "libboost-dev (>= 1.81)")
endif()
list(JOIN build_packages ", " build_packages)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "${library_package} (= ${PROJECT_VERSION}), ${build_packages}")

set(CPACK_DEBIAN_TOOLS_PACKAGE_NAME kindred-tools)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_TOOLS_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "${library_package} (>= ${PROJECT_VERSION})")

set(CPACK_DEBIAN_VIEW_PACKAGE_NAME kindred-view)
set(CPACK_DEBIAN_VIEW_PACKAGE_SECTION devel)
set(CPACK_DEBIAN_VIEW_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_VIEW_PACKAGE_DEPENDS "${library_package} (>= ${PROJECT_VERSION})")

# What Debian's policy asks of every package.
set(work ${PROJECT_BINARY_DIR}/deb)
file(MAKE_DIRECTORY ${work})
configure_file(${CMAKE_CURRENT_LIST_DIR}/deb/changelog.in ${work}/changelog @ONLY)
execute_process(COMMAND gzip -9 -n -c ${work}/changelog OUTPUT_FILE ${work}/changelog.gz)
configure_file(${CMAKE_CURRENT_LIST_DIR}/deb/library.lintian-overrides.in ${work}/library @ONLY)
install(FILES ${work}/library DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides RENAME ${library_package} COMPONENT library)
set(documented library:${library_package} dev:libkindred-dev tools:kindred-tools)
if(view_programs)
  list(APPEND documented view:kindred-view)
endif()
foreach(pair IN LISTS documented)
  string(REPLACE ":" ";" pair ${pair})
  list(GET pair 0 component)
  list(GET pair 1 package)
  install(FILES ${CMAKE_CURRENT_LIST_DIR}/deb/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component})
  install(FILES ${work}/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component})
endforeach()
include(CPack)
