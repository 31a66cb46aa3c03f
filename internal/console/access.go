package console

import "github.com/postrider/postrider/internal/api/access"

// Who is who looks.
func (q *request) Who() access.Identity { return access.Of(q.http.Context()) }

// allowed says why somebody may not do what a role is needed for.
func (q *request) allowed(need access.Role) error {
	if who := q.Who(); !who.May(need) {
		return &forbiddenError{who.Refusal(need).Error()}
	}
	return nil
}

// MayChange says whether buttons are shown that do something about messages.
func (q *request) MayChange() bool { return q.Who().May(access.Operator) }
