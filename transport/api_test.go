package transport_test

import (
	"bytes"
	"errors"
	"flag"
	"go/ast"
	"go/build"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files in testdata/api")

// The exported API of every package that programs import, of all modules. A change of
// these files is a decision, and not every version may bring it.
func TestExportedAPI(t *testing.T) {
	for _, pkg := range published(t) {
		t.Run(pkg, func(t *testing.T) {
			got, names := exported(t, filepath.Join("..", pkg))
			// Of those of tokencache, a third are what a Store can do besides.
			if written := []string{"transport", "transport/endpoint", "tokencache"}; slices.Contains(written, pkg) && names > 33 {
				t.Errorf("%d exported names; about 30 is what a newcomer can hold in mind", names)
			}
			golden := filepath.Join("..", "testdata", "api", filepath.Base(pkg)+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(golden), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			wantLines := strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n")
			gotLines := strings.Split(string(got), "\n")
			for i, line := range gotLines {
				if i >= len(wantLines) || line != wantLines[i] {
					t.Fatalf("the exported API has changed, first at line %d of %s: %q; if that is meant, run: go test ./transport -run TestExportedAPI -update", i+1, golden, line)
				}
			}
			if len(wantLines) > len(gotLines) {
				t.Fatalf("the exported API has lost what %s ends with; if that is meant, run: go test ./transport -run TestExportedAPI -update", golden)
			}
		})
	}
}

// TestDeprecatedInTheAPI: a golden file says of each line whether the next version may go
// without it.
func TestDeprecatedInTheAPI(t *testing.T) {
	dir := t.TempDir()
	source := `package p
// Old is old.
//
// Deprecated: Use New.
type Old struct {
	A int
}
type New struct {
	// B is deprecated.
	//
	// Deprecated: Use C.
	B int
	C int
	d int
}
// F does not say it as tools expect it. Deprecated: no.
func F() {}
// Deprecated: Use F.
func G() {}
const (
	// Deprecated: Use Y.
	X = 1
	Y = 2
)
`
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	got, _ := exported(t, dir)
	want := `const (
	X = 1 // Deprecated
	Y = 2
)
func F()
func G() // Deprecated
type New struct {
	B int // Deprecated
	C int
	// contains filtered or unexported fields
}
type Old struct { // Deprecated
	A int // Deprecated
} // Deprecated
`
	if string(got) != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
}

// published returns the directories of the packages that programs can import, without the
// benchmarks.
func published(t *testing.T) (dirs []string) {
	t.Helper()
	for _, top := range []string{"tokencache", "transport"} {
		err := filepath.WalkDir(filepath.Join("..", top), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return err
			}
			switch d.Name() {
			case "internal", "testdata", "bench":
				return filepath.SkipDir
			}
			pkg, err := build.ImportDir(path, 0)
			if _, none := errors.AsType[*build.NoGoError](err); none {
				return nil
			}
			if err == nil && !pkg.IsCommand() {
				dirs = append(dirs, filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator))))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// exported returns the exported declarations of the package in dir on Linux, and how many
// lines of "go doc -short" they make. Each line of what is deprecated ends in deprecated.
func exported(t *testing.T, dir string) (api []byte, names int) {
	t.Helper()
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH = "linux", "amd64"
	pkg, err := ctx.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var decls []string
	for _, name := range pkg.GoFiles {
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(file)
		for _, d := range file.Decls {
			var doc *ast.CommentGroup
			switch d := d.(type) {
			case *ast.FuncDecl:
				doc, d.Body = d.Doc, nil
				if d.Recv == nil {
					names++
				} else if !exportedReceiver(d) {
					continue // FileExports leaves these in.
				}
			case *ast.GenDecl:
				doc = d.Doc
				if d.Tok == token.IMPORT || len(d.Specs) == 0 {
					continue
				}
				names++
			}
			markDeprecated(d)
			var b bytes.Buffer
			if err := format.Node(&b, fset, d); err != nil {
				t.Fatal(err)
			}
			decl := b.String() + "\n"
			if isDeprecated(doc) {
				decl = strings.ReplaceAll(strings.ReplaceAll(decl, " "+deprecated, ""), "\n", " "+deprecated+"\n")
			}
			decls = append(decls, decl)
		}
	}
	slices.Sort(decls)
	return []byte(strings.Join(decls, "")), names
}

const deprecated = "// Deprecated"

// isDeprecated reports whether one of the paragraphs of doc says so, as tools expect it.
func isDeprecated(doc *ast.CommentGroup) bool {
	return strings.Contains("\n\n"+doc.Text(), "\n\nDeprecated: ")
}

// markDeprecated replaces the comments within d: what is deprecated gets one that says
// that, at the end of its line, and the rest has none.
func markDeprecated(d ast.Decl) {
	mark := func(doc, comment **ast.CommentGroup, end token.Pos) {
		*comment = nil
		if isDeprecated(*doc) {
			*comment = &ast.CommentGroup{List: []*ast.Comment{{Slash: end, Text: deprecated}}}
		}
		*doc = nil
	}
	ast.Inspect(d, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			n.Doc = nil
		case *ast.GenDecl:
			n.Doc = nil
		case *ast.Field:
			mark(&n.Doc, &n.Comment, n.End())
		case *ast.TypeSpec:
			mark(&n.Doc, &n.Comment, n.End())
		case *ast.ValueSpec:
			mark(&n.Doc, &n.Comment, n.End())
		}
		return true
	})
}

// exportedReceiver reports whether the method d belongs to an exported type.
func exportedReceiver(d *ast.FuncDecl) bool {
	typ := d.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	id, ok := typ.(*ast.Ident)
	return ok && id.IsExported()
}

// What each package may depend on, so that an application that only keeps its
// tokens in a file does not get a keyring, and nobody gets a web framework.
func TestDependencies(t *testing.T) {
	const module = "github.com/stayauth/stayauth/"
	allowed := map[string][]string{
		"tokencache": {module + "tokencache/gate", "github.com/gofrs/flock"},
		"transport":  {module + "tokencache", "golang.org/x/oauth2", "github.com/cenkalti/backoff/v4"},
		// The endpoint knows nothing of the state of a login, and transport nothing of the
		// requests to an endpoint.
		"transport/endpoint": {module + "transport", module + "tokencache", "golang.org/x/oauth2"},
	}
	for _, pkg := range slices.Sorted(maps.Keys(allowed)) {
		p, err := build.ImportDir(filepath.Join("..", pkg), 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range p.Imports {
			std := !strings.Contains(strings.SplitN(path, "/", 2)[0], ".")
			std = std || strings.HasPrefix(path, module+strings.Split(pkg, "/")[0]+"/internal/")
			if !std && !slices.Contains(allowed[pkg], path) {
				t.Errorf("%s imports %s: tokencache must not know transport, nor transport its endpoint, only oskeyring knows the keyring, and heavy drivers live in nested modules", pkg, path)
			}
		}
	}
	err := filepath.WalkDir("..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.Contains(path, "node_modules") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, imp := range f.Imports {
			switch p := strings.Trim(imp.Path.Value, `"`); {
			case strings.Contains(filepath.ToSlash(path), "transport/bench/start/"): // compares us with what others do
			case p == "github.com/zalando/go-keyring" && !strings.Contains(filepath.ToSlash(path), "tokencache/oskeyring/"):
				t.Errorf("%s imports %s: only tokencache/oskeyring may, since its calls can hang", path, p)
			case strings.HasPrefix(p, module+"transport") && strings.HasPrefix(filepath.ToSlash(path), "../tokencache/") && !strings.HasSuffix(path, "_test.go"):
				t.Errorf("%s imports %s: a cache must not know what it is used for", path, p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
