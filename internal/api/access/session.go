package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	loginPath  = "/login"
	logoutPath = "/logout"
	cookieName = "postrider_session"
	sessionFor = 12 * time.Hour
)

// sign proves that who makes a cookie has the token. It ends with the token.
func (h *holder) sign(until int64) string {
	key := h.sum.Get(time.Now())
	mac := hmac.New(sha256.New, key[:])
	fmt.Fprintf(mac, "postrider-session\n%s\n%d", h.Name, until)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (h *holder) cookie(now time.Time) string {
	until := now.Add(sessionFor).Unix()
	return fmt.Sprintf("%s:%d:%s", h.Name, until, h.sign(until))
}

// verify returns whose cookie it is, nil if it is forged, or has ended.
func (g *Gate) verify(value string, now time.Time) *holder {
	parts := strings.Split(value, ":")
	if len(parts) != 3 {
		return nil
	}
	until, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil || now.Unix() >= until {
		return nil
	}
	for i := range g.holders {
		h := &g.holders[i]
		if h.Name == parts[0] && hmac.Equal([]byte(h.sign(until)), []byte(parts[2])) {
			return h
		}
	}
	return nil
}

//go:embed login.html login.css
var files embed.FS

var loginPage = template.Must(template.ParseFS(files, "login.html"))

// session serves the page where people log in, and what it sends.
func (g *Gate) session(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	switch {
	case r.URL.Path == logoutPath && r.Method == http.MethodPost:
		g.setCookie(w, r, "", -1)
		http.Redirect(w, r, loginPath, http.StatusSeeOther)
	case r.URL.Path == logoutPath:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "logging out is a POST", http.StatusMethodNotAllowed)
	case g.Open():
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case r.Method == http.MethodPost:
		g.login(w, r)
	case r.URL.Query().Has("style"):
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		http.ServeFileFS(w, r, files, "login.css")
	default:
		showLogin(w, http.StatusOK, "", r.URL.Query().Get("next"))
	}
}

func (g *Gate) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 8<<10)
	next := r.PostFormValue("next")
	h := g.find(strings.TrimSpace(r.PostFormValue("token")))
	switch {
	case h == nil:
		g.count(r)
		showLogin(w, http.StatusUnauthorized, "This token is not known.", next)
		return
	case h.Role == Worker:
		showLogin(w, http.StatusForbidden, "This is a worker's token: it takes jobs, and may not look at anything.", next)
		return
	}
	g.setCookie(w, r, h.cookie(time.Now()), int(sessionFor/time.Second))
	http.Redirect(w, r, localPath(next), http.StatusSeeOther)
}

func (g *Gate) setCookie(w http.ResponseWriter, r *http.Request, value string, age int) {
	secure := r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode})
}

func showLogin(w http.ResponseWriter, status int, trouble, next string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	loginPage.Execute(w, struct{ Trouble, Next string }{trouble, next}) // a browser that is gone needs no page
}

// localPath is a path of this server, whatever somebody put into a link to the page.
func localPath(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return u.RequestURI()
}

func escapePath(u *url.URL) string { return url.QueryEscape(u.RequestURI()) }
