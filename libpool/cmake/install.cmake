# find_package(kindred CONFIG), and kindred.pc.
include(CMakePackageConfigHelpers)
get_property(kindred_targets GLOBAL PROPERTY KINDRED_TARGETS)
get_property(kindred_include_dirs GLOBAL PROPERTY KINDRED_INCLUDE_DIRS)
get_property(kindred_packages GLOBAL PROPERTY KINDRED_PACKAGES)
get_property(pc_requires GLOBAL PROPERTY KINDRED_PC_REQUIRES)
get_property(pc_libs GLOBAL PROPERTY KINDRED_PC_LIBS)

install(TARGETS ${kindred_targets} EXPORT kindred
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
get_property(kindred_programs GLOBAL PROPERTY KINDRED_PROGRAMS)
if(kindred_programs)
  install(TARGETS ${kindred_programs} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
foreach(folder IN LISTS kindred_include_dirs)
  if(IS_DIRECTORY ${folder})
    install(DIRECTORY ${folder}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
  endif()
endforeach()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/kindred)
install(EXPORT kindred NAMESPACE kindred:: FILE kindred-targets.cmake DESTINATION ${package_dir})
list(TRANSFORM kindred_packages REPLACE "(.+)" "find_dependency(\\1)")
list(JOIN kindred_packages "\n" find_dependencies)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/kindred-config.cmake.in ${PROJECT_BINARY_DIR}/kindred-config.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/kindred-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/kindred-config.cmake ${PROJECT_BINARY_DIR}/kindred-config-version.cmake DESTINATION ${package_dir})

# A static library brings no word of what it rests on, so kindred.pc says it to everyone who links it; a shared one does, so
# there it is said to `pkg-config --static` only. What our headers include is required either way.
list(JOIN pc_requires ", " pc_requires)
list(JOIN pc_libs " " pc_libs)
if(BUILD_SHARED_LIBS)
  set(pc_private "Libs.private: ${pc_libs}")
  set(pc_libs "")
else()
  set(pc_private "")
endif()
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_prefix /${pc_dir} /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/kindred.pc.in ${PROJECT_BINARY_DIR}/kindred.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/kindred.pc DESTINATION ${pc_dir})
