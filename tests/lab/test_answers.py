from pipesd.lab.answers import Answer, Record
from pipesd.session.commands import GenerationStats


def test_an_answer_knows_when_how_many_tokens_came():
    answer = Answer(begun_s=2.0)
    answer.take(2.5, (7, 8))
    answer.take(2.75, [9])
    assert answer.tokens == [7, 8, 9]
    assert answer.moments == [(2.5, 2), (2.75, 1)]


def test_nothing_has_happened_at_first_and_nothing_is_shared():
    answer = Answer(begun_s=1.0)
    Answer(begun_s=0.0).take(1.0, [5])
    assert (answer.begun_s, answer.tokens, answer.moments, answer.stats) == (1.0, [], [], GenerationStats())
    record = Record()
    Record().answers.append(answer)
    assert record == Record(answers=[], passes=0, cloud_s=0.0, sent_bytes=0, received_bytes=0)
