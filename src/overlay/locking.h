// The one lock order of the overlay engine. A thread takes locks only downwards in this list.
//
//   1. Overlay::tree_mutex_   shared: every operation. Exclusive: rename and removal of directories, the only
//                             changes of a directory's place in the tree. Under it no node lock is needed.
//   2. Node::mutex of a directory, as the parent of the names looked at or changed.
//   3. Node::mutex of one of its children. Never a second parent or a second child: operations on two (rename) hold
//      the tree exclusively.
//   4. Leaves, which call nothing that locks: NodeTable shards and free list, DirFdCache shards, HandleTable
//      shards, Handle::mutex, InodeNumbers, Overlay's maps.
//
// What they guard:
//   Node::mutex of a directory   the set of its names (shared: lookup, readdir; exclusive: create, unlink, ...),
//                                whether it is in upper, its name index and listing.
//   Node::mutex of another node  its names, its place (lower, upper, nameless), and its copy-up, which runs
//                                wholly under it. Shared while its place is used.
//   tree_mutex_ (shared)         parent and name of every directory, and its list of lower layers.
//
// Copy-up of parents happens one directory at a time, before any level-2 or level-3 lock is taken.
// Notifications that the kernel may answer by taking an inode lock (all but inval_attr) are not sent from here.
#pragma once
