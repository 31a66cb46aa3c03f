package access

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/internal/api/problem"
	"github.com/postrider/postrider/internal/secret"
)

// RelayHeader marks calls that one relay passes on to another; who receives them checks their signature.
const RelayHeader = "Postrider-Relay"

// Gate lets requests through with the identity of who sends them. Make one with NewGate.
type Gate struct {
	holders []holder // none: everybody is an admin
	log     *slog.Logger
	cross   *http.CrossOriginProtection

	mu      sync.Mutex
	refused int // since it was told
	toldAt  time.Time
}

type holder struct {
	Token
	sum *secret.Watched[[sha256.Size]byte]
}

// NewGate follows the tokens' references. A file that changes is read again.
func NewGate(tokens []Token, log *slog.Logger) (*Gate, error) {
	g := &Gate{log: log, cross: http.NewCrossOriginProtection()}
	for _, t := range tokens {
		sum, err := secret.Watch(log, (*secret.Store)(nil).Own(), "POSTRIDER_API_TOKENS: "+t.Name, t.Ref, parseSecret)
		if err != nil {
			return nil, err
		}
		g.holders = append(g.holders, holder{t, sum})
	}
	return g, nil
}

// Open says whether everybody who reaches the port is an admin.
func (g *Gate) Open() bool { return len(g.holders) == 0 }

// Wrap lets through to next what may be asked for at all; handlers ask Of who it is, and whether they may.
func (g *Gate) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.Open() && !isLocal(r.Host) {
			problem.Write(w, problem.New(http.StatusMisdirectedRequest, "wrong_host", "Host %.100q: must be localhost or an address such as 127.0.0.1, since there are no tokens", r.Host))
			return
		}
		if err := g.cross.Check(r); err != nil {
			problem.Write(w, problem.New(http.StatusForbidden, "from_a_page", "the request comes from a page of another origin, and would change something"))
			return
		}
		if r.Header.Get("Webhook-Id") != "" {
			problem.Write(w, problem.New(http.StatusForbidden, "from_a_delivery", "the request is a delivery of a message: the sink of a subscription leads to this port"))
			return
		}
		if r.URL.Path == loginPath || r.URL.Path == logoutPath {
			g.session(w, r)
			return
		}
		who, err := g.whose(r)
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		told := &teller{ResponseWriter: w}
		next.ServeHTTP(told, r.WithContext(With(r.Context(), who)))
		g.tell(r, who, told.status)
	})
}

// whose finds out who sends a request.
func (g *Gate) whose(r *http.Request) (Identity, error) {
	if g.Open() {
		return Identity{Name: "local", Role: Admin, Local: true}, nil
	}
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, token, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return Identity{}, unauthorized("Authorization: must look like Bearer TOKEN")
		}
		if h := g.find(strings.TrimSpace(token)); h != nil {
			return h.Identity, nil
		}
		return Identity{}, unauthorized("Authorization: this token is none of POSTRIDER_API_TOKENS")
	}
	if cookie, err := r.Cookie(cookieName); err == nil {
		if h := g.verify(cookie.Value, time.Now()); h != nil {
			return h.Identity, nil
		}
		return Identity{}, unauthorized("the session has ended: log in again at " + loginPath)
	}
	if r.Header.Get(RelayHeader) != "" {
		return Identity{}, nil // nobody may do nothing, but what the signature proves
	}
	return Identity{}, unauthorized("a token is needed: send it as Authorization: Bearer TOKEN")
}

// find looks through all tokens, however soon one is the right one.
func (g *Gate) find(token string) (found *holder) {
	sum, now := sha256.Sum256([]byte(token)), time.Now()
	for i := range g.holders {
		own := g.holders[i].sum.Get(now)
		if subtle.ConstantTimeCompare(own[:], sum[:]) == 1 {
			found = &g.holders[i]
		}
	}
	return found
}

func unauthorized(detail string) *problem.Details {
	return problem.New(http.StatusUnauthorized, "unauthorized", "%s", detail)
}

// refuse sends people to where they can log in, and tells programs what is missing. Refusals are logged, many as one line.
func (g *Gate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if r.Header.Get("Authorization") != "" {
		g.count(r)
	}
	if page(r) {
		http.Redirect(w, r, loginPath+"?next="+escapePath(r.URL), http.StatusSeeOther)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="postrider"`)
	problem.Write(w, err)
}

const tellEvery = 10 * time.Second

func (g *Gate) count(r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refused++
	if time.Since(g.toldAt) < tellEvery {
		return
	}
	g.log.Warn("refused a token that is not known", "times", g.refused, "from", r.RemoteAddr)
	g.refused, g.toldAt = 0, time.Now()
}

// page says whether a person's browser asks for a page.
func page(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && !strings.HasPrefix(r.URL.Path, "/api/") && strings.Contains(r.Header.Get("Accept"), "text/html")
}

// tell logs who changed something. Workers' calls are too many, and show in attempts.
func (g *Gate) tell(r *http.Request, who Identity, status int) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.HasPrefix(r.URL.Path, "/api/v1/jobs/") {
		return
	}
	g.log.Info("asked over HTTP", "who", who.Name, "role", who.Role.String(), "what", fmt.Sprintf("%s %.200s", r.Method, r.URL.Path), "status", status)
}

// teller remembers an answer's status.
type teller struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (t *teller) WriteHeader(status int) {
	if t.status == 0 {
		t.status = status
	}
	t.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (t *teller) Write(text []byte) (int, error) {
	if t.status == 0 {
		t.status = http.StatusOK
	}
	return t.ResponseWriter.Write(text)
}

// Unwrap lets http.ResponseController reach what is behind.
func (t *teller) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// isLocal says whether a name can only lead to this machine.
func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}
