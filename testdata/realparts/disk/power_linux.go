package disk

import (
	"bytes"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A State is what a power failure may leave: the content of files, nil for directories, by their
// paths below the directory of the program. Said is what the program had printed by then.
type State struct {
	Files map[string][]byte
	Said  string
}

// PowerFails runs the program once and returns every state in which the power may leave the disk
// after Begin, under the rules of ext4 (data=ordered) and XFS: what is done to names reaches the
// disk in its order, all of it before an fsync returns; what is written to a file reaches it at the
// fsync of that file, and before that wholly, in part, as zeros, or not at all.
//
// Of files whose name is temporary it does not matter what is in them, until they are renamed.
func (p Program) PowerFails(t testing.TB, temporary func(name string) bool) []State {
	t.Helper()
	before, err := files(p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := p.trace(t, "-y", "-xx", "-e", "trace=openat,write,pwrite64,ftruncate,fsync,fdatasync,renameat,renameat2,unlinkat,mkdirat,link,linkat,symlinkat")
	ops, err := operations(lines, p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	return states(before, ops, temporary)
}

// files reads all files below dir.
func files(dir string) (map[string][]byte, error) {
	all := make(map[string][]byte)
	return all, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || e.IsDir() {
			all[name] = nil
			return err
		}
		b, err := os.ReadFile(path)
		all[name] = append([]byte{}, b...)
		return err
	})
}

// Write writes the files of the state below dir, which is empty.
func (s State) Write(dir string) error {
	for _, name := range slices.Sorted(maps.Keys(s.Files)) {
		path, err := filepath.Join(dir, name), error(nil)
		if s.Files[name] == nil {
			err = os.Mkdir(path, 0o700)
		} else {
			err = os.WriteFile(path, s.Files[name], 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// An inode is a file. What is done to it and has not been synced may be lost.
type inode struct {
	synced, now []byte
	dir         bool
}

func (i *inode) write(op operation) {
	if op.kind == "truncate" {
		i.now = append(slices.Clone(i.now[:min(len(i.now), op.offset)]), make([]byte, max(0, op.offset-len(i.now)))...)
		return
	}
	end := op.offset + len(op.data)
	i.now = append(slices.Clone(i.now), make([]byte, max(0, end-len(i.now)))...)
	copy(i.now[op.offset:], op.data)
}

// contents are what the power may leave of a file.
func (i *inode) contents() [][]byte {
	if i.dir {
		return [][]byte{nil}
	}
	all := [][]byte{i.now}
	if bytes.Equal(i.now, i.synced) {
		return all
	}
	mixed := slices.Clone(i.now) // the first half of what is new, the second of what was there
	copy(mixed[len(mixed)/2:], i.synced[min(len(i.synced), len(mixed)/2):])
	for _, c := range [][]byte{i.synced, {}, i.now[:len(i.now)/2], make([]byte, len(i.now)), mixed} {
		if !slices.ContainsFunc(all, func(b []byte) bool { return bytes.Equal(b, c) }) {
			all = append(all, c)
		}
	}
	return all
}

// states returns all states, without repetitions.
func states(before map[string][]byte, ops []operation, temporary func(string) bool) (all []State) {
	seen := make(map[string]bool)
	began := slices.IndexFunc(ops, func(op operation) bool { return op.kind == "say" && strings.Contains(string(op.data), begun) })
	for end := max(began+1, 0); end <= len(ops); end++ {
		said := ""
		var forced int // until here the names are on the disk
		for i, op := range ops[:end] {
			switch {
			case op.kind == "sync":
				forced = i
			case op.kind == "say" && i > began:
				said += string(op.data)
			}
		}
		for names := forced; names <= end; names++ {
			if names > forced && names < end && !changesNames(ops[names-1].kind) {
				continue
			}
			for files := range left(before, ops[:end], names, temporary) {
				s := State{files, said}
				if id := s.id(); !seen[id] {
					seen[id] = true
					all = append(all, s)
				}
			}
		}
	}
	return all
}

func changesNames(kind string) bool {
	return kind == "create" || kind == "mkdir" || kind == "rename" || kind == "remove"
}

// left yields what ops may leave if of what they do to names only the first are on the disk.
func left(before map[string][]byte, ops []operation, names int, temporary func(string) bool) iter.Seq[map[string][]byte] {
	now := make(map[string]*inode)
	for path, b := range before {
		now[path] = &inode{synced: b, now: b, dir: b == nil}
	}
	disk := maps.Clone(now)
	for i, op := range ops {
		switch op.kind {
		case "create", "mkdir":
			if now[op.path] == nil {
				now[op.path] = &inode{synced: []byte{}, now: []byte{}, dir: op.kind == "mkdir"}
			}
		case "rename":
			now[op.to] = now[op.path]
			delete(now, op.path)
		case "remove":
			delete(now, op.path)
		case "write", "truncate":
			if f := now[op.path]; f != nil {
				f.write(op)
			}
		case "sync":
			if f := now[op.path]; f != nil {
				f.synced = f.now
			}
		}
		if i+1 == names {
			disk = maps.Clone(now)
		}
	}
	paths := slices.Sorted(maps.Keys(disk))
	return func(yield func(map[string][]byte) bool) {
		chosen := make(map[string][]byte)
		var choose func(rest []string) bool
		choose = func(rest []string) bool {
			if len(rest) == 0 {
				return yield(maps.Clone(chosen))
			}
			contents := disk[rest[0]].contents()
			if temporary(filepath.Base(rest[0])) {
				contents = contents[:1]
			}
			for _, c := range contents {
				if chosen[rest[0]] = c; !choose(rest[1:]) {
					return false
				}
			}
			return true
		}
		choose(paths)
	}
}

func (s State) id() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", s.Said)
	for _, path := range slices.Sorted(maps.Keys(s.Files)) {
		fmt.Fprintf(&b, "\n%s %t %x", path, s.Files[path] == nil, s.Files[path])
	}
	return b.String()
}
