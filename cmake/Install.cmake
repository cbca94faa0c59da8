# What `cmake --install` puts where. Component "runtime" is what a user needs, "dev" what a programmer needs.
option(VELLUM_INSTALL_LIBS "Install the static libraries beside the headers" OFF)

install(TARGETS vellum RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT runtime)

# A link at `directory`/`name` that leads to the binary wherever the tree is moved.
function(vellum_install_link directory name)
  file(RELATIVE_PATH target "/prefix/${directory}" "/prefix/${CMAKE_INSTALL_BINDIR}/vellum")
  set(link "${CMAKE_CURRENT_BINARY_DIR}/links/${directory}/${name}")
  file(MAKE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/links/${directory}")
  file(CREATE_LINK "${target}" "${link}" SYMBOLIC)
  install(FILES "${link}" DESTINATION "${directory}" COMPONENT runtime)
endfunction()

if(VELLUM_PEER_LINKS_IN_BIN)
  vellum_install_link("${CMAKE_INSTALL_BINDIR}" fuse-overlayfs)
else()
  vellum_install_link("${CMAKE_INSTALL_LIBEXECDIR}/vellum/bin" fuse-overlayfs)
endif()
vellum_install_link("${CMAKE_INSTALL_SBINDIR}" mount.vellum) # mount -t vellum
vellum_install_link("${CMAKE_INSTALL_SBINDIR}" mount.composefs) # mount -t composefs
foreach(name mkcomposefs composefs-info composefs-dump)
  if(VELLUM_PEER_LINKS_IN_BIN)
    vellum_install_link("${CMAKE_INSTALL_BINDIR}" ${name})
  else()
    vellum_install_link("${CMAKE_INSTALL_LIBEXECDIR}/vellum/bin" ${name})
  endif()
endforeach()

install(FILES man/vellum.1 man/vellum-overlay.1 man/vellum-stats.1 man/vellum-views.1 man/vellum-run.1
  man/vellum-image.1 man/mkcomposefs.1 man/composefs-info.1
  DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT runtime)
install(FILES man/composefs-dump.5 DESTINATION "${CMAKE_INSTALL_MANDIR}/man5" COMPONENT runtime)
install(FILES man/mount.composefs.8 DESTINATION "${CMAKE_INSTALL_MANDIR}/man8" COMPONENT runtime)
install(FILES completions/vellum.bash RENAME vellum
  DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" COMPONENT runtime)
# Debian's zsh reads a package's completions from a place of its own.
install(FILES completions/_vellum DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/site-functions" COMPONENT zsh)
install(FILES completions/_vellum DESTINATION "${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions" COMPONENT debian
  EXCLUDE_FROM_ALL)
install(FILES completions/vellum.fish DESTINATION "${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d" COMPONENT runtime)
if(VELLUM_PEER_LINKS_IN_BIN)
  install(FILES man/vellum-overlay.1 RENAME fuse-overlayfs.1 DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT runtime)
endif()
install(FILES README.md CHANGELOG.md DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT runtime)
install(FILES docs/options.md docs/troubleshooting.md docs/views.md docs/composefs.md DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT runtime)
install(FILES LICENSE RENAME copyright DESTINATION "${CMAKE_INSTALL_DOCDIR}" COMPONENT runtime)

# Programs compile with -I<prefix>/include/vellum: our headers name each other as in the source tree.
foreach(folder base sys fuse overlay views erofs composefs vellum)
  install(DIRECTORY "src/${folder}" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/vellum" COMPONENT dev
    FILES_MATCHING PATTERN "*.h")
endforeach()
if(VELLUM_INSTALL_LIBS)
  install(TARGETS vellum_base vellum_sys vellum_fuse vellum_overlay vellum_views vellum_erofs vellum_composefs
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}/vellum" COMPONENT dev)
endif()
