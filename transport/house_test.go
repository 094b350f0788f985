package transport_test

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// largestGroup is how many files may reach each other, directly or through others. Such
// files can only be understood together.
const largestGroup = 4

// TestFilesThatReachEachOther: the files of a package form no large group of files that can
// only be understood together.
func TestFilesThatReachEachOther(t *testing.T) {
	for _, dir := range []string{".", "endpoint", "../tokencache"} {
		for _, group := range groups(fileGraph(t, dir)) {
			if len(group) > largestGroup {
				t.Errorf("%s: %d files reach each other: %s", dir, len(group), strings.Join(group, " "))
			}
		}
	}
}

// mostFiles is how many files a package may have so that its listing is a table of
// contents, and longestFile how many lines a file so that it is one idea. One that has
// more says why, in a comment that begins with "Long:".
const (
	mostFiles   = 26
	longestFile = 300
)

// TestSizeOfTheHouse: no package has too many files, and no file too many lines, in any module.
func TestSizeOfTheHouse(t *testing.T) {
	files := map[string]int{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files[filepath.Dir(path)]++
		text, err := os.ReadFile(path)
		if lines := bytes.Count(text, []byte("\n")); lines > longestFile && !bytes.Contains(text, []byte("\n// Long: ")) {
			t.Errorf("%s has %d lines: split it, or say why it has to be long", path, lines)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir, n := range files {
		if n > mostFiles {
			t.Errorf("%s has %d files", dir, n)
		}
	}
}

// fileGraph returns which files of the package in dir use something that is declared in
// which others.
func fileGraph(t *testing.T, dir string) map[string]map[string]bool {
	t.Helper()
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}", ".")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		realparts.Require(t, "the go command", err)
	}
	exports := map[string]string{}
	for line := range bytes.Lines(out) {
		if path, file, ok := strings.Cut(strings.TrimSpace(string(line)), "\t"); ok {
			exports[path] = file
		}
	}
	pkg, err := build.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range pkg.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })}
	checked, err := conf.Check(pkg.Name, fset, files, info)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]map[string]bool{}
	file := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	for _, name := range pkg.GoFiles {
		uses[name] = map[string]bool{}
	}
	for id, object := range info.Uses {
		if object.Pkg() != checked || !object.Pos().IsValid() {
			continue
		}
		if v, ok := object.(*types.Var); ok && !v.IsField() && v.Parent() != checked.Scope() {
			continue
		}
		if from, to := file(id.Pos()), file(object.Pos()); from != to {
			if os.Getenv("EDGES") != "" {
				println(from, to, id.Name)
			}
			uses[from][to] = true
		}
	}
	return uses
}

// groups returns the strongly connected components (Tarjan).
func groups(uses map[string]map[string]bool) (all [][]string) {
	index, low, on := map[string]int{}, map[string]int{}, map[string]bool{}
	var stack []string
	var visit func(string)
	visit = func(v string) {
		index[v] = len(index) + 1
		low[v] = index[v]
		stack = append(stack, v)
		on[v] = true
		for w := range uses[v] {
			if index[w] == 0 {
				visit(w)
				low[v] = min(low[v], low[w])
			} else if on[w] {
				low[v] = min(low[v], index[w])
			}
		}
		if low[v] == index[v] {
			var group []string
			for {
				w := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				on[w] = false
				group = append(group, w)
				if w == v {
					break
				}
			}
			slices.Sort(group)
			all = append(all, group)
		}
	}
	for _, v := range slices.Sorted(maps.Keys(uses)) {
		if index[v] == 0 {
			visit(v)
		}
	}
	return all
}
