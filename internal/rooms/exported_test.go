package rooms

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// onlyTests are exported names of the engine that no code but tests uses, each with the reason why it stays. The list only shrinks.
// One of a type is of its methods and fields, too.
var onlyTests = map[string]string{
	"relay/feed.Ask":               model,
	"relay/feed.Feed.Begin":        model,
	"relay/feed.Feed.Put":          model,
	"relay/feed.Feed.Streaming":    model,
	"relay/feed.Feed.Took":         model,
	"relay/feed.HasHole":           model,
	"relay/feed.News":              model,
	"relay/progress.Progress.Wins": model,
	"relay/progress.markedRow":     model,
	"relay/progress.passProgress":  model,
	"relay/progress.winProgress":   model,
	"relay/queue.Budget":           model,
	"relay/snapshot.Snapshot":      model,
	"relay/wal.Assembler":          model,
	"relay/wal.Backlog":            model,
	"relay/wal.NewAssembler":       model,

	"relay/delivery.Inside":        running,
	"relay/delivery.MaxBeyond":     running,
	"relay/delivery.MaxDone":       running,
	"relay/delivery.NoticeEvery":   running,
	"relay/delivery.Runner.Inside": running,
	"relay/delivery.TripAfter":     running,
	"relay/maintain.ExpiryBatch":   running,

	"relay/maintain.Retention":  "tests of segments take its turns one by one, beside relays that run",
	"relay/snapshot.NewIDSet":   "its text is held against the server's, which this room does not know",
	"relay/snapshot.ParseIDSet": "its text is held against the server's, which this room does not know",
}

const (
	model   = "the model of histories drives it as the engine does"
	running = "tests of a relay that runs wait for it, or reach this bound"
)

// TestExported: what a room of the engine exports is used by another package's code, not only by tests. A test that wants more of a room belongs into it.
func TestExported(t *testing.T) {
	packages := checked(t)
	used := map[types.Object]bool{}
	var contracts []*types.Interface
	for _, p := range packages {
		if !strings.HasSuffix(p.path, "test") { // those help tests
			p.uses(used)
		}
		contracts = append(contracts, p.contracts()...)
	}
	for object := range maps.Clone(used) {
		mentions(object.Type(), used)
	}
	unused := map[string]bool{}
	for _, p := range packages {
		if (p.path == "relay" || strings.HasPrefix(p.path, "relay/")) && !strings.HasSuffix(p.path, "test") {
			for _, name := range p.unused(used, contracts) {
				unused[p.path+"."+name] = true
			}
		}
	}
	excused := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(unused)) {
		by := name
		if onlyTests[by] == "" {
			by = name[:strings.LastIndex(name, ".")] // the type, of a member
		}
		if excused[by] = true; onlyTests[by] == "" {
			t.Errorf("%s is exported, and no code of another package uses it: unexport it, and move tests that need it into its package", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(onlyTests)) {
		if !excused[name] {
			t.Errorf("%s is gone, or is used now: take it out of onlyTests", name)
		}
	}
}

// typed is a package with its types, but for its tests.
type typed struct {
	path string // without the module's
	*types.Package
	info  *types.Info
	files []*ast.File
}

// uses adds what the package uses of others.
func (p *typed) uses(used map[types.Object]bool) {
	for _, object := range p.info.Uses {
		switch o := object.(type) {
		case *types.Var:
			object = o.Origin()
		case *types.Func:
			object = o.Origin()
		}
		if object.Pkg() != p.Package {
			used[object] = true
		}
	}
}

// mentions adds the types that something of this type makes known.
func mentions(t types.Type, used map[types.Object]bool) {
	switch t := t.(type) {
	case *types.Named:
		used[t.Obj()] = true
		for arg := range t.TypeArgs().Types() {
			mentions(arg, used)
		}
	case *types.Alias:
		used[t.Obj()] = true
	case interface{ Elem() types.Type }: // pointer, slice, array, channel, map
		mentions(t.Elem(), used)
		if m, ok := t.(*types.Map); ok {
			mentions(m.Key(), used)
		}
	case *types.Signature:
		for _, list := range []*types.Tuple{t.Params(), t.Results()} {
			for v := range list.Variables() {
				mentions(v.Type(), used)
			}
		}
	}
}

// contracts returns the interfaces that the package and its imports name: a method may be there for one of them.
func (p *typed) contracts() (list []*types.Interface) {
	scopes := []*types.Scope{types.Universe, p.Scope()}
	for _, pkg := range p.Imports() {
		scopes = append(scopes, pkg.Scope())
	}
	for _, scope := range scopes {
		for _, name := range scope.Names() {
			if named, ok := scope.Lookup(name).(*types.TypeName); ok {
				if i, ok := named.Type().Underlying().(*types.Interface); ok && i.NumMethods() > 0 {
					list = append(list, i)
				}
			}
		}
	}
	// What package errors asks for has no name there.
	err := types.Universe.Lookup("error").Type()
	unwrap := types.NewSignatureType(nil, nil, nil, nil, types.NewTuple(types.NewVar(0, nil, "", err)), false)
	return append(list, types.NewInterfaceType([]*types.Func{types.NewFunc(0, nil, "Unwrap", unwrap)}, nil).Complete())
}

// unused returns the exported names of the package, and of its types' methods and fields, that are neither used nor there for a contract.
// Of constants with a type of their own one is enough, or the type; of a type one of its members.
func (p *typed) unused(used map[types.Object]bool, contracts []*types.Interface) (list []string) {
	known := map[types.Type]bool{} // types of such constants
	for _, name := range p.Scope().Names() {
		if c, ok := p.Scope().Lookup(name).(*types.Const); ok {
			named, _ := c.Type().(*types.Named)
			known[c.Type()] = known[c.Type()] || named != nil && named.Obj().Pkg() == p.Package && (used[c] || used[named.Obj()])
		}
	}
	for _, name := range p.Scope().Names() {
		object := p.Scope().Lookup(name)
		switch object := object.(type) {
		case *types.TypeName:
			members, without := p.members(object, used, contracts)
			for _, m := range without {
				list = append(list, name+"."+m)
			}
			if len(members) > 0 {
				continue
			}
		case *types.Const:
			if known[object.Type()] {
				continue
			}
		}
		if object.Exported() && !used[object] {
			list = append(list, name)
		}
	}
	return list
}

// members returns the exported methods and fields of a type that are used, and those that are not.
func (p *typed) members(object *types.TypeName, used map[types.Object]bool, contracts []*types.Interface) (with, without []string) {
	note := func(member types.Object) {
		switch {
		case !member.Exported():
		case used[member]:
			with = append(with, member.Name())
		default:
			without = append(without, member.Name())
		}
	}
	named, ok := object.Type().(*types.Named)
	if !ok {
		return nil, nil
	}
	for method := range named.Methods() {
		if !slices.ContainsFunc(contracts, func(c *types.Interface) bool {
			m, _, _ := types.LookupFieldOrMethod(c, false, nil, method.Name())
			return m != nil && types.Implements(types.NewPointer(named), c)
		}) {
			note(method)
		}
	}
	if s, ok := named.Underlying().(*types.Struct); ok {
		for i := range s.NumFields() {
			if f := s.Field(i); !f.Embedded() && s.Tag(i) == "" {
				note(f)
			}
		}
	}
	return with, without
}

// checked type-checks all packages of the module. What those of others export is in files that the compiler wrote.
func checked(t *testing.T) (list []*typed) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-export", "-deps", "-json=ImportPath,Export,Dir,GoFiles,Module", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	fset, exports, own := token.NewFileSet(), map[string]string{}, map[string]*types.Package{}
	foreign := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); { // what a package imports comes before it
		var p struct {
			ImportPath, Export, Dir string
			GoFiles                 []string
			Module                  *struct{ Main bool }
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if exports[p.ImportPath] = p.Export; p.Module == nil || !p.Module.Main {
			continue
		}
		one := &typed{path: strings.TrimPrefix(p.ImportPath, module), info: &types.Info{Uses: map[*ast.Ident]types.Object{}}}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			one.files = append(one.files, f)
		}
		conf := types.Config{Importer: importFunc(func(path string) (*types.Package, error) {
			if pkg := own[path]; pkg != nil {
				return pkg, nil
			}
			return foreign.Import(path)
		})}
		if one.Package, err = conf.Check(p.ImportPath, fset, one.files, one.info); err != nil {
			t.Fatal(err)
		}
		own[p.ImportPath] = one.Package
		list = append(list, one)
	}
	if len(list) < 20 {
		t.Fatalf("only %d packages were found", len(list))
	}
	return list
}

type importFunc func(path string) (*types.Package, error)

func (f importFunc) Import(path string) (*types.Package, error) { return f(path) }
