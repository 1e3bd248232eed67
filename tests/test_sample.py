"""Sampling: pure functions of logits and one uniform number for each row."""

import pytest
import torch

from janus_cli.engine.sample import guide, keep_top_k, keep_top_p, pick, pick_each, uniform_numbers

LOGITS = torch.tensor([[2.0, 0.5, 1.0, -1.0, 0.0]])


def distribution(**options) -> torch.Tensor:
    """How often each of five choices is picked over evenly spread uniform numbers."""
    uniforms = torch.linspace(0, 1 - 1e-6, 20_000)
    picks = pick(LOGITS.expand(len(uniforms), -1), uniforms, **options)
    return torch.bincount(picks, minlength=5) / len(uniforms)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_picks_follow_the_softmax(temperature):
    expected = (LOGITS[0] / temperature).softmax(-1)
    torch.testing.assert_close(distribution(temperature=temperature), expected, atol=2e-4, rtol=0)


def test_temperature_zero_is_greedy_whatever_the_number():
    uniforms = torch.tensor([0.0, 0.5, 0.999])
    assert pick(LOGITS.expand(3, -1), uniforms, temperature=0).tolist() == [0, 0, 0]


def test_every_row_is_picked_as_if_it_were_alone():
    logits = torch.randn(6, 500, generator=torch.Generator().manual_seed(0))
    uniforms = torch.linspace(0, 0.999, 6)
    temperatures = torch.tensor([0, 0.3, 1.0, 0, 7.0, 0.3])
    together = pick_each(logits, uniforms, temperatures)
    for row in range(6):
        alone = slice(row, row + 1)
        assert together[alone] == pick_each(logits[alone], uniforms[alone], temperatures[alone])
        temperature = temperatures[row].item()
        assert together[row] == pick(logits[alone], uniforms[alone], temperature=temperature)


def test_top_k_keeps_the_k_most_likely():
    found = distribution(top_k=2)
    expected = LOGITS[0].masked_fill(torch.tensor([0, 1, 0, 1, 1]).bool(), -torch.inf).softmax(-1)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
    assert torch.equal(keep_top_k(LOGITS, 0), LOGITS)
    assert torch.equal(keep_top_k(LOGITS, 99), LOGITS)


def test_top_p_keeps_the_fewest_that_reach_the_share():
    probabilities = torch.tensor([[0.1, 0.5, 0.15, 0.25]])
    kept = keep_top_p(probabilities, 0.7)
    torch.testing.assert_close(kept, torch.tensor([[0.0, 0.5, 0.0, 0.25]]))
    assert (keep_top_p(probabilities, 0.01) > 0).tolist() == [[False, True, False, False]]


def test_a_code_without_probability_is_never_picked():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    assert pick(logits, torch.tensor([0.0, 0.5, 1 - 1e-7])).tolist() == [1, 1, 1]


def test_guidance_of_one_is_the_conditional_row():
    conditional, unconditional = torch.randn(2, 3, 5)
    torch.testing.assert_close(guide(conditional, unconditional, 1.0), conditional)
    torch.testing.assert_close(guide(conditional, unconditional, 0.0), unconditional)
    expected = unconditional + 5 * (conditional - unconditional)
    torch.testing.assert_close(guide(conditional, unconditional, 5.0), expected)


def test_numbers_of_a_seed_do_not_depend_on_its_neighbours():
    together = uniform_numbers([7, 8, 9], 50)
    assert torch.equal(together[1:2], uniform_numbers([8], 50))
    assert not torch.equal(together[0], together[1])
    assert together.min() >= 0 and together.max() < 1
