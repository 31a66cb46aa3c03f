package expression

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/postrider/postrider/sinks"
)

const (
	// maxText is how many bytes an expression may have.
	maxText = 4096
	// maxCost bounds one evaluation, in CEL's units: about one for each operation, and one for each ten bytes of text that it goes through.
	maxCost = 50_000
	// maxDepthOfText bounds how deep an expression may be nested: to check one takes a time that grows with the cube of it.
	maxDepthOfText = 64
	// maxPattern bounds the program of a regular expression.
	maxPattern = 1000
)

// variables are what an expression sees of a message.
var variables = []cel.EnvOption{
	cel.Variable("topic", cel.StringType),
	cel.Variable("key", cel.StringType),
	cel.Variable("payload", cel.DynType),
	cel.Variable("body", cel.DynType),
	cel.Variable("headers", cel.MapType(cel.StringType, cel.StringType)),
	cel.Variable("id", cel.IntType),
	cel.Variable("priority", cel.IntType),
	cel.Variable("created_at", cel.TimestampType),
}

// known names them in a sentence.
const known = "topic, key, payload, body, headers, id, priority and created_at"

// carried are those that are still to be read where a message is withheld.
var carried = []string{"payload", "body", "headers"}

// environment is made when the first expression is compiled: most relays have none.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(append(slices.Clip(variables), cel.CrossTypeNumericComparisons(true), cel.OptionalTypes(), cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxText), cel.ParserRecursionLimit(maxDepthOfText), cel.RegexProgramSizeLimit(maxPattern),
		cel.ASTValidators(cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateRegexLiterals()))...)
})

// kind is what an expression is for.
type kind struct {
	wants string                                                // what its value must be, with an example
	fits  func(*cel.Type) bool                                  // whether that is of a type, if it is known before
	take  func(v ref.Val, m *sinks.Message) (is any, err error) // of the value of a message; errType if it is of another type
}

var (
	filters  = kind{"must be true or false, as of payload.total > 100", among(cel.BoolType), takeBool}
	names    = kind{"must be a text, a whole number, true or false, as of payload.customer", among(cel.StringType, cel.IntType, cel.UintType, cel.BoolType), takeName}
	payloads = kind{"", func(*cel.Type) bool { return true }, takeJSON}
	headers  = kind{`must be texts by name, as of {"region": payload.region}`, func(t *cel.Type) bool { return t.Kind() == types.MapKind }, takeHeaders}
	topics   = kind{`must be a text, as of "eu." + topic`, among(cel.StringType), takeTopic}
)

// among says whether a type is one of these.
func among(these ...*cel.Type) func(*cel.Type) bool {
	return func(t *cel.Type) bool { return slices.ContainsFunc(these, t.IsExactType) }
}

// Program is a compiled expression. It may be used by several goroutines at once.
type Program struct {
	kind    *kind
	program cel.Program
	quick   cel.Program // without a count of what it costs; nil: it may cost much, even on a small message
	carried bool        // it looks at what the message carries,
	reads   bool        // at the payload
}

// readers is how many programs there are that look at payloads.
var readers atomic.Int32

// small is the largest payload on which a program that may be quick is not counted.
const small = 64 << 10

// programFor returns what is to be run on a message.
func (p *Program) programFor(m *sinks.Message) cel.Program {
	if p.quick != nil && len(m.Payload)+len(m.Headers) <= small {
		return p.quick
	}
	return p.program
}

// Filter compiles an expression that says which messages are wanted. Errors are CompileErrors.
func Filter(text string) (*Program, error) { return compiled(&filters, text) }

// Name compiles an expression by whose value messages are told apart. Errors are CompileErrors.
func Name(text string) (*Program, error) { return compiled(&names, text) }

// Carried says whether it looks at what a message carries: payload, body or headers.
func (p *Program) Carried() bool { return p.carried }

// programKey is what makes two programs one.
type programKey struct {
	kind *kind
	text string
}

// programs are those in use.
var programs struct {
	sync.Mutex
	inUse map[programKey]weak.Pointer[Program]
}

// compiled returns the program of a text, the same one for as long as somebody has it.
func compiled(k *kind, text string) (*Program, error) {
	key := programKey{k, text}
	programs.Lock()
	defer programs.Unlock()
	if p := programs.inUse[key].Value(); p != nil {
		return p, nil
	}
	p, err := compile(k, text)
	if err != nil {
		return nil, err
	}
	if programs.inUse == nil {
		programs.inUse = make(map[programKey]weak.Pointer[Program])
	}
	programs.inUse[key] = weak.Make(p)
	runtime.AddCleanup(p, forget, key)
	if p.reads {
		readers.Add(1)
		runtime.AddCleanup(p, func(n int32) { readers.Add(n) }, -1)
	}
	return p, nil
}

// forget takes out a program that nobody has, unless it was compiled again meanwhile.
func forget(key programKey) {
	programs.Lock()
	defer programs.Unlock()
	if programs.inUse[key].Value() == nil {
		delete(programs.inUse, key)
	}
}

func compile(k *kind, text string) (*Program, error) {
	switch {
	case strings.TrimSpace(text) == "":
		return nil, wrong(strings.TrimSuffix("there is no expression: its value "+k.wants, ": its value "))
	case len(text) > maxText:
		return nil, wrong(fmt.Sprintf("the expression has %d bytes: it must have at most %d", len(text), maxText))
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("environment of expressions: %w", err)
	}
	checked, issues := env.Compile(text)
	if err := problemsOf(issues); err != nil {
		return nil, err
	}
	if is := checked.OutputType(); !is.IsExactType(cel.DynType) && !k.fits(is) {
		return nil, wrong(fmt.Sprintf("its value %s, and is of type %s", k.wants, is))
	}
	p := &Program{kind: k}
	if err := p.plan(env, checked); err != nil {
		return nil, wrong(err.Error())
	}
	for _, reference := range checked.NativeRep().ReferenceMap() {
		p.carried = p.carried || slices.Contains(carried, reference.Name)
		p.reads = p.reads || reference.Name == "payload"
	}
	return p, nil
}

// plan makes what is run.
func (p *Program) plan(env *cel.Env, checked *cel.Ast) (err error) {
	p.program, err = env.Program(checked, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(maxCost))
	if err == nil && isQuick(checked.NativeRep().Expr()) {
		p.quick, err = env.Program(checked, cel.EvalOptions(cel.OptOptimize))
	}
	return err
}

// quickly are functions that take no longer than it takes to go through what they are given, and make nothing that is larger.
var quickly = []string{operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals, operators.LogicalAnd,
	operators.LogicalOr, operators.LogicalNot, operators.Conditional, operators.Index, operators.In, operators.Negate, operators.Subtract, operators.Multiply, operators.Divide,
	operators.Modulo, operators.OptSelect, operators.OptIndex, "startsWith", "endsWith", "contains", "size", "orValue", "hasValue", "int", "double", "timestamp", "duration"}

// isQuick says whether an evaluation costs no more than some times its text and the message: it has neither loops nor what makes texts
// longer, or looks for patterns.
func isQuick(e ast.Expr) bool {
	quick := true
	ast.PostOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.ComprehensionKind:
			quick = false
		case ast.CallKind:
			quick = quick && slices.Contains(quickly, e.AsCall().FunctionName())
		}
	}))
	return quick
}

// Problem is what is wrong at one place of an expression.
type Problem struct {
	Line   int // from 1 on
	column int // likewise, in characters
	text   string
}

// CompileError is what is wrong with an expression: one problem at least, in the order of places.
type CompileError []Problem

// Error names the place of each problem.
func (e CompileError) Error() string {
	var texts []string
	for _, p := range e {
		texts = append(texts, fmt.Sprintf("line %d, column %d: %s", p.Line, p.column, p.text))
	}
	return strings.Join(texts, "; ")
}

// wrong is a problem of the whole expression.
func wrong(text string) error { return CompileError{{1, 1, text}} }

// mostProblems are told at once.
const mostProblems = 5

func problemsOf(issues *cel.Issues) error {
	if issues.Err() == nil {
		return nil
	}
	var problems CompileError
	for _, e := range issues.Errors() {
		problems = append(problems, Problem{max(e.Location.Line(), 1), max(e.Location.Column(), 0) + 1, plain(e.Message)})
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.column, b.column)) })
	return problems[:min(len(problems), mostProblems)]
}

// plain says what CEL says in words that need no knowledge of it, where that is easy, and what would be right.
func plain(message string) string {
	message = strings.TrimPrefix(message, "Syntax error: ")
	message = strings.ReplaceAll(message, " (in container '')", "")
	if before, _, ok := strings.Cut(message, " expecting {"); ok { // of which there may be dozens
		message = before
	}
	switch {
	case strings.Contains(message, "'<EOF>'"):
		return "the expression ends too soon"
	case strings.Contains(message, "recursion limit exceeded"), strings.Contains(message, "max recursion depth exceeded"):
		return fmt.Sprintf("the expression is nested more than %d deep", maxDepthOfText)
	}
	if what, ok := strings.CutPrefix(message, "found no matching overload for "); ok {
		return what + " is not defined: numbers and texts are converted by int(…), double(…) and string(…)"
	}
	if name, ok := strings.CutPrefix(message, "undeclared reference to "); ok {
		return "nothing is called " + name + ": there are " + known + "; a text needs quotes"
	}
	return message
}

// errorOf is why an evaluation has no value, for people.
func errorOf(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "cost limit exceeded"):
		text = fmt.Sprintf("it costs more than %d steps on this message", maxCost)
	case strings.HasPrefix(text, "no such key: "):
		text += ", which has(…) would ask for first"
	}
	return errors.New(text)
}
