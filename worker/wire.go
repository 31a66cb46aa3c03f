package worker

import (
	"encoding/json"
	"time"
)

// What goes over HTTP: docs/jobs-http.md tells the meaning.

// ref names a job that is out, and with its token the attempt.
type ref struct {
	Subscription string `json:"subscription"`
	ID           int64  `json:"id"`
	Token        string `json:"token"`
}

// wanted is how many jobs of a subscription a take asks for.
type wanted struct {
	Subscription string `json:"subscription"`
	Max          int    `json:"max"`
}

type takeRequest struct {
	Worker      string   `json:"worker"`
	Incarnation string   `json:"incarnation"`
	From        []wanted `json:"from"`
	Wait        string   `json:"wait"`
	// Holding is all that the worker holds; nil says nothing of it.
	Holding *[]ref `json:"holding,omitempty"`
}

type settleRequest struct {
	Worker      string      `json:"worker"`
	Incarnation string      `json:"incarnation"`
	Items       []item      `json:"items"`
	Take        *settleTake `json:"take,omitempty"`
}

type settleTake struct {
	From []wanted `json:"from"`
	Wait string   `json:"wait"`
}

// item is what became of a job.
type item struct {
	ref
	Outcome string          `json:"outcome"`
	After   string          `json:"after,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

type beatRequest struct {
	Worker      string     `json:"worker"`
	Incarnation string     `json:"incarnation"`
	Holding     *[]ref     `json:"holding,omitempty"`
	Progress    []progress `json:"progress,omitempty"`
}

type progress struct {
	ref
	Percent int    `json:"percent"`
	Note    string `json:"note,omitempty"`
}

// answer is what all three verbs answer, each a part of it.
type answer struct {
	Jobs   []takenJob `json:"jobs"`
	Items  []settled  `json:"items"`
	Cancel []ref      `json:"cancel"`
	Lost   []ref      `json:"lost"`
	Quiet  bool       `json:"quiet"`
}

type settled struct {
	Subscription string `json:"subscription"`
	ID           int64  `json:"id"`
	Answer       string `json:"answer"`
}

const (
	answerLate      = "late"
	answerCancelled = "cancelled"
	answerMoving    = "moving" // to be asked again: the subscription changes hands
)

// takenJob is a job as it comes.
type takenJob struct {
	ref
	Topic       string            `json:"topic"`
	Key         string            `json:"key"`
	Payload     json.RawMessage   `json:"payload"`
	Body        []byte            `json:"body"`
	Headers     map[string]string `json:"headers"`
	CreatedAt   time.Time         `json:"created_at"`
	Priority    int               `json:"priority"`
	Attempt     int               `json:"attempt"`
	MaxAttempts int               `json:"max_attempts"`
	Deadline    time.Time         `json:"deadline"`
}

func (t *takenJob) job() *Job {
	return &Job{Subscription: t.Subscription, ID: t.ID, Topic: t.Topic, Key: t.Key, Payload: t.Payload, Body: t.Body, Headers: t.Headers,
		CreatedAt: t.CreatedAt, Priority: t.Priority, Attempt: t.Attempt, MaxAttempts: t.MaxAttempts, Deadline: t.Deadline}
}
